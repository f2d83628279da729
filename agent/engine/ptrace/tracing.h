// Seizing, masks and the swallowing of SIGCONT: what holding and recovering have in common.
#pragma once

#include "agent/engine/ptrace/stop.h"
#include "agent/engine/ptrace/stop_limit.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

// Seizes every thread of `pid` and interrupts it, and waits until all are in a trap stop. Threads that end meanwhile
// are left out; threads that appear are included. On failure nothing stays seized, but for a thread that does not stop.
// Returns host TIDs, the leader first.
std::vector<pid_t> seize_threads(pid_t pid, unsigned long options, const StopLimit& limit);

// What becomes of a thread besides being seized.
struct Escort {
  std::function<void(pid_t)> bring = [](pid_t) {};  // each, before it is seized
  std::function<void(pid_t)> runs = [](pid_t) {};   // it does not stand: it may make another one
  std::function<void()> back = [] {};               // all stand, and are let go of
};
// The same of a process that is in a group stop, as far as its first thread, and stays in it. nullopt: somebody has
// ended the group stop meanwhile, and nothing is seized any more.
std::optional<std::vector<pid_t>> seize_stopped_threads(pid_t pid, unsigned long options, const StopLimit& limit,
                                                        const Escort& escort = {});

// Throws Errc::timed_out, and says what `tid` does instead.
[[noreturn]] void fail_to_stop(pid_t pid, pid_t tid, const StopLimit& limit);

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
bool any_queued(pid_t tid, SignalQueue queue, int number);

// A thread in a trap stop, or at a SIGSTOP of its own, goes on to the stop in which it is about to act on signal
// `number`, which must be pending and the only one that it does not block.
void take_signal(pid_t tid, int number);
// And from any stop back to a trap stop; `number` is the signal that it goes on with, 0 drops it.
void to_trap_stop(pid_t tid, int number);

// Ends the group stop of a traced process without its SIGCONT handler running: `tid`, in a trap stop, takes the signal
// and drops it, and is in a trap stop again. Other signals must be blocked in all threads. No SIGCONT is pending then.
void swallow_sigcont(pid_t pid, pid_t tid);

// Lets go; threads that have ended are no error, and are waited for.
void detach_threads(std::span<const pid_t> tids) noexcept;

}  // namespace godwit::engine
