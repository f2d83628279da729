// Signal state: what is done on each signal, what is queued, the alternate stack.
#pragma once

#include "agent/engine/ptrace/kept_signals.h"
#include "agent/engine/tasks/inquiry.h"
#include "common/image/core.pb.h"

namespace godwit::engine::tasks::signals {

// Dispositions, of the process.
void dump_actions(Inquiry& ask, image::TaskCoreEntry& into);
void restore_actions(Batch& batch, const image::TaskCoreEntry& from);

// Queued signals, left in place, and those that the hold keeps of this queue. After the timers have been read, else an
// expiry could fall between.
// `left_out` says what is in the queue because of the hold.
void dump_queue(pid_t tid, SignalQueue queue, std::span<const KeptSignal> kept,
                const std::function<bool(const Siginfo&)>& left_out, image::SignalQueueEntry& into);
// Runs in the thread itself, which may queue any siginfo to itself. `pid` and `tid` are the guest's. Without SIGCONT,
// which the end of any batch takes out of the queues again.
void restore_queue(Batch& batch, SignalQueue queue, pid_t pid, pid_t tid, const image::SignalQueueEntry& from);
// After the last batch; `pid` and `tid` are the host's.
void restore_continue(SignalQueue queue, pid_t pid, pid_t tid, const image::SignalQueueEntry& from);

bool has(const image::SignalQueueEntry& queue, int number);

void dump_stack(Inquiry& ask, image::ThreadCoreEntry& into);
void restore_stack(Batch& batch, const image::ThreadCoreEntry& from);

}  // namespace godwit::engine::tasks::signals
