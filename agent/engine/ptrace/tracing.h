// Seizing, masks and the swallowing of SIGCONT: what holding and recovering have in common.
#pragma once

#include "agent/engine/ptrace/stop.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

// Seizes every thread of `pid` and waits until all are in a trap stop. Threads that end meanwhile are left out; threads
// that appear are included. On failure nothing stays seized. Returns host TIDs, the leader first.
//
// `bringing`: of a process in a group stop; null: nothing of the kind.
struct Bringing {
  std::function<void(pid_t)> bring;  // gets each thread before it is seized
  std::function<void()> give_up;     // somebody has ended the group stop, or a thread is late: what was brought may run
};
std::vector<pid_t> seize_threads(pid_t pid, unsigned long options, bool interrupt, std::chrono::milliseconds limit,
                                 const Bringing* bringing = nullptr);

// Waits until the first thread of a process that SIGSTOP was sent to has stopped, or ended. From then on no thread
// comes to run its program before it has stopped, too, and none can make another one. A thread that is seized earlier
// gives the process signals that it would ignore, and a call of another thread returns EINTR for one.
enum class GroupStop {
  begun = 1,
  awaited,  // not within this time: it has no CPU, or somebody has sent SIGCONT
  held_up,  // nor soon: it is in a call that nothing interrupts, as vfork
};
GroupStop wait_group_stop(pid_t pid, std::chrono::milliseconds time);

// From here on what is injected into `tid`, which is in a trap stop, passes its seccomp filters, whose answer to a call
// that the program never makes may be its death. Not before it stands still: until then what it calls is its own. The
// kernel takes this back when the tracer lets go or dies.
void suspend_filters(pid_t pid, pid_t tid);

std::uint64_t get_sigmask(pid_t tid);
void set_sigmask(pid_t tid, std::uint64_t mask);
inline constexpr std::uint64_t all_signals = ~std::uint64_t{0};
constexpr std::uint64_t signal_bit(int number) { return std::uint64_t{1} << (number - 1); }

// What waits in a queue, left in place. `tid` is in a ptrace stop; any thread can tell the process's queue.
enum class SignalQueue { thread = 1, process };
std::vector<Siginfo> queued_signals(pid_t tid, SignalQueue queue);

// A thread in a trap stop, or at a SIGSTOP of its own, goes on to the stop in which it is about to act on signal
// `number`, which must be pending and the only one that it does not block.
void take_signal(pid_t tid, int number);
// And from any stop back to a trap stop; `number` is the signal that it goes on with, 0 drops it.
void to_trap_stop(pid_t tid, int number);

// Ends the group stop of a traced process without its SIGCONT handler running: `tid`, in a trap stop, takes the signal
// and drops it, and is in a trap stop again. Other signals must be blocked in all threads. No SIGCONT is pending then.
void swallow_sigcont(pid_t pid, pid_t tid);

// Lets go; threads that have ended are no error.
void detach_threads(std::span<const pid_t> tids) noexcept;

}  // namespace godwit::engine
