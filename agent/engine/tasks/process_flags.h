// The small settings of a process: personality, dumpable, child subreaper, transparent huge pages, OOM score, core dump
// filter, membarrier registrations.
#pragma once

#include "agent/engine/tasks/inquiry.h"
#include "common/image/core.pb.h"
#include "common/image/mm.pb.h"
#include "common/proc/reader.h"

#include <string>
#include <vector>

namespace godwit::engine::tasks::process_flags {

void dump(const proc::Reader& proc, Inquiry& ask, image::TaskCoreEntry& tc, image::MmEntry& mm);

// In the leader, before credentials.
void restore(Batch& batch, const image::TaskCoreEntry& tc, const image::MmEntry& mm);
// Credentials reset it, so it comes after them.
void restore_dumpable(Batch& batch, const image::MmEntry& mm);
// From outside. A notice for what needs CAP_SYS_RESOURCE.
std::vector<std::string> restore_outside(pid_t pid, const image::TaskCoreEntry& tc);

}  // namespace godwit::engine::tasks::process_flags
