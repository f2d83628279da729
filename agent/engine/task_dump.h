// The state of a held task, but for its memory and descriptors, as images.
#pragma once

#include "agent/engine/kinship.h"
#include "agent/engine/ptrace/hold.h"
#include "agent/engine/resources/fd_table.h"
#include "agent/engine/resources/file_ids.h"
#include "agent/engine/tasks/facts_reader.h"
#include "agent/engine/tasks/filters.h"
#include "agent/engine/tasks/witnesses.h"
#include "common/image/core.pb.h"
#include "common/image/image_set.h"
#include "common/image/mm.pb.h"

#include <map>
#include <string>
#include <vector>

namespace godwit::engine {

// The ids of what tasks have to themselves begin here: 1 are those of the program that dumps and restores, in CRIU's
// count.
inline constexpr std::uint32_t first_id = 2;

struct TaskState {
  pid_t guest_pid = 0;
  std::map<pid_t, pid_t> guest_tids;        // by host TID
  std::map<pid_t, image::CoreEntry> cores;  // by guest TID
  std::map<pid_t, InnerPids> inner;         // of threads in a nested namespace, by guest TID
  bool keeps_memory = true;                 // that of another process is in the images of that one
  image::MmEntry mm;                        // without mappings
  image::TaskKobjIdsEntry ids;
};

// Reads everything; injects one batch per thread. `facts` are those of all held threads. `witnesses`: there are any
// when this is the first stop, in which refuse_hidden() was called with them.
TaskState dump_task(Hold& hold, tasks::FactsReader& facts, const resources::StoppedTask& task, resources::FileIds& ids,
                    tasks::filters::Dump& filters, const tasks::Witnesses* witnesses);

// core-*, mm-*, ids-*. `state.mm` has its mappings by now.
void write_task(const TaskState& state, image::ImageSet& out);
// pstree, inventory, clocks, and of zombies core-*. `states` are those of the living, in the order of `tree`.
void write_tree(const std::vector<Relative>& tree, const std::vector<TaskState>& states, image::ImageSet& out);

}  // namespace godwit::engine
