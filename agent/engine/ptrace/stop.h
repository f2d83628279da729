// Wait statuses and registers of traced threads: the only place that decodes status bits.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>

#include <sys/types.h>
#include <sys/user.h>

namespace godwit::engine {

// A siginfo_t, byte by byte as the kernel keeps it. Not that type itself, because <csignal> has a macro of the name of
// a field of the images.
struct alignas(8) Siginfo {
  std::array<std::byte, 128> bytes{};
  int number() const;
};

using Regs = user_regs_struct;

// Why a traced thread stopped.
class Stop {
 public:
  explicit Stop(int status) : status_(status) {}

  bool stopped() const { return (status_ & 0xff) == 0x7f; }
  int signal() const { return (status_ >> 8) & 0xff; }  // of a stop
  int event() const { return status_ >> 16; }           // PTRACE_EVENT_*, 0 for plain stops
  bool trap_stop() const;              // PTRACE_EVENT_STOP: interrupt, group stop or first stop after auto-attach
  bool syscall_stop() const;           // needs PTRACE_O_TRACESYSGOOD
  bool signal_stop(int number) const;  // about to be delivered
  bool gone() const { return !stopped(); }
  int raw() const { return status_; }

 private:
  int status_;
};

// A thread, or (by its first one) a process: it is a zombie, or is no more.
bool has_ended(pid_t tid);
// Or it will have, and does not come to run its program again: it has been killed. Nobody may trace it any more
// (EPERM).
bool is_ending(pid_t tid);

// Waits until `tid`, traced by this thread, stops or ends. Errc::timed_out after `limit`: a wedged tracee
// must not wedge the engine. Errc::target_gone: it has ended, but others of its process are to be waited for first.
Stop wait_stop(pid_t tid, std::chrono::milliseconds limit = std::chrono::seconds(10));

// Sleeps until some child or tracee changes its state, or the limit is over; it may also return for nothing. Blocks
// SIGCHLD in this thread, for good.
void wait_for_change(std::chrono::microseconds limit);

Regs get_regs(pid_t tid);
void set_regs(pid_t tid, const Regs& regs);

// ptrace(2) with the error checked; `what` names the request in the message.
long trace(int request, pid_t tid, unsigned long addr, unsigned long data, const char* what);

}  // namespace godwit::engine
