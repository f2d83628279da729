// The state of a held task, but for its memory and descriptors, as images.
#pragma once

#include "agent/engine/ptrace/hold.h"
#include "agent/engine/resources/file_ids.h"
#include "agent/engine/tasks/facts_reader.h"
#include "common/image/core.pb.h"
#include "common/image/image_set.h"
#include "common/image/mm.pb.h"

#include <map>
#include <string>
#include <vector>

namespace godwit::engine {

// The ids of what a task shares begin here: 1 are those of the program that dumps and restores, in CRIU's count.
inline constexpr std::uint32_t root_files_id = 2;

struct TaskState {
  pid_t guest_pid = 0;
  pid_t guest_pgid = 0, guest_sid = 0;
  std::map<pid_t, pid_t> guest_tids;        // by host TID
  std::map<pid_t, image::CoreEntry> cores;  // by guest TID
  image::MmEntry mm;                        // without mappings
  image::TaskKobjIdsEntry ids;
};

// Reads everything; injects one batch per thread. `facts` are those of all held threads.
TaskState dump_task(Hold& hold, const tasks::Facts& facts, resources::FileIds& ids);

// core-*, mm-*, ids-*, pstree, inventory. `state.mm` has its mappings by now.
void write_task(const TaskState& state, image::ImageSet& out);

}  // namespace godwit::engine
