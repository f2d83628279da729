// On which NUMA nodes a thread's memory is placed (set_mempolicy), where a mapping has no policy of its own.
#pragma once

#include "agent/engine/numa/policy.h"
#include "agent/engine/tasks/inquiry.h"
#include "common/image/core.pb.h"

namespace godwit::engine::tasks::memory_policy {

void dump(Inquiry& ask, image::ThreadCoreEntry& into);
// In the thread. What this host does not have fails by name.
void restore(Batch& batch, const image::ThreadCoreEntry& from, numa::Requirements& requirements);

}  // namespace godwit::engine::tasks::memory_policy
