// What ties a thread to its memory and its parent: rseq area, robust futex list, the address cleared at its end, its
// name, the signal at its parent's death.
#pragma once

#include "agent/engine/tasks/inquiry.h"
#include "common/image/core.pb.h"

namespace godwit::engine::tasks::thread_links {

void dump(pid_t tid, Inquiry& ask, image::CoreEntry& into);
// `leader`: its clear_tid address is set here, those of other threads when they are cloned.
void restore(Batch& batch, const image::CoreEntry& from, bool leader);
// After the credentials, which reset it, and after the helper that was the parent has gone.
void restore_parent_death(Batch& batch, const image::CoreEntry& from);

}  // namespace godwit::engine::tasks::thread_links
