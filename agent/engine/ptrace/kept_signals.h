// Pending signals that the hold would destroy. A stop signal makes the kernel drop a pending SIGCONT, and SIGCONT every
// pending stop signal, whoever had sent them and whether they are blocked or not; the hold sends both. So they are read
// out before, kept in the borrow journal, and queued again afterwards with every byte of their siginfo.
//
// Threads are given by host TID; all of a process's are in a trap stop of this engine, or at the SIGSTOP of a
// batch, unless it says otherwise.
#pragma once

#include "agent/engine/ptrace/journal.h"
#include "agent/engine/ptrace/tracing.h"

#include <cstdint>
#include <span>

#include <sys/types.h>

namespace godwit::engine {

extern const std::uint64_t continue_signal;
extern const std::uint64_t stop_signals;  // those that can be blocked, and thus stay pending: not SIGSTOP

// Whether the process or one of its threads has one of `signals` in its queue. The process may run.
bool any_pending(pid_t pid, std::uint64_t signals);

// Writes those of `signals` that are pending into the journal, each once; they stay in their queues. Throws
// Errc::unsupported when there are more than a journal keeps.
void keep_pending(Journal::Process& journal, pid_t pid, std::span<const pid_t> tids, std::uint64_t signals);

// Puts a signal into the queue of a thread, or (`tid` 0) of the process, without its being delivered. The thread takes
// a signal of that number and, before it acts on it, finds it blocked and queues it again, with the siginfo that the
// tracer has given it: no code runs in the target. All signals are blocked in all threads, before and after.
void queue_again(pid_t pid, const KeptSignal& signal);
void queue_again(pid_t pid, std::span<const KeptSignal> signals);

}  // namespace godwit::engine
