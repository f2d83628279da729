// Identity and privileges of a thread. Threads of one process may differ in all of it.
#pragma once

#include "agent/engine/tasks/inquiry.h"
#include "common/image/creds.pb.h"
#include "common/proc/status.h"

namespace godwit::engine::tasks::credentials {

void dump(const proc::Status& status, Inquiry& ask, image::CredsEntry& into);
// Runs in the thread, as root with all capabilities, after everything that needs them. What the restored thread has
// inherited from the engine (bounding set, no_new_privs) can only shrink.
void restore(Batch& batch, const image::CredsEntry& from);

}  // namespace godwit::engine::tasks::credentials
