// Signal state: what is done on each signal, what is queued, the alternate stack.
#pragma once

#include "agent/engine/tasks/inquiry.h"
#include "common/image/core.pb.h"

namespace godwit::engine::tasks::signals {

// Dispositions, of the process.
void dump_actions(Inquiry& ask, image::TaskCoreEntry& into);
void restore_actions(Batch& batch, const image::TaskCoreEntry& from);

// Queued signals, left in place: PTRACE_PEEKSIGINFO. After the timers have been read, else an expiry could fall
// between.
enum class Queue { thread = 1, process };
void dump_queue(pid_t tid, Queue queue, image::SignalQueueEntry& into);
// Runs in the thread itself, which may queue any siginfo to itself. `pid` and `tid` are the guest's.
void restore_queue(Batch& batch, Queue queue, pid_t pid, pid_t tid, const image::SignalQueueEntry& from);

void dump_stack(Inquiry& ask, image::ThreadCoreEntry& into);
void restore_stack(Batch& batch, const image::ThreadCoreEntry& from);

}  // namespace godwit::engine::tasks::signals
