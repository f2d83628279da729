// Scheduling of a thread: policy, priority, nice value, time slice, affinity, timer slack, I/O priority.
#pragma once

#include "agent/engine/ptrace/hold.h"
#include "agent/engine/tasks/inquiry.h"
#include "common/image/core.pb.h"

#include <string>
#include <vector>

namespace godwit::engine::tasks::scheduling {

void dump(const HeldThread& thread, Inquiry& ask, image::ThreadCoreEntry& into);

// In the thread, before its credentials.
void restore(Batch& batch, const image::ThreadCoreEntry& from);
// From outside, last (the engine has pinned it): policy and affinity of thread `tid`. A notice for each that this host
// does not grant.
std::vector<std::string> restore_last(pid_t tid, const image::ThreadCoreEntry& from);

}  // namespace godwit::engine::tasks::scheduling
