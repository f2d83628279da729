// Switches of a thread that code of its own may depend on: whether RDTSC and CPUID are allowed, mitigations against
// speculation, what a memory error does to it.
#pragma once

#include "agent/engine/tasks/inquiry.h"
#include "common/image/core.pb.h"

namespace godwit::engine::tasks::thread_flags {

void dump(Inquiry& ask, image::ThreadCoreEntry& into);
// In the thread. What this host's hardware does not have fails by name.
void restore(Batch& batch, const image::ThreadCoreEntry& from);

}  // namespace godwit::engine::tasks::thread_flags
