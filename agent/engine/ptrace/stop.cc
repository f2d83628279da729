#include "agent/engine/ptrace/stop.h"

#include "common/base/check.h"
#include "common/base/units.h"

#include <elf.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

namespace godwit::engine {

bool Stop::trap_stop() const { return stopped() && event() == PTRACE_EVENT_STOP; }
bool Stop::syscall_stop() const { return stopped() && signal() == (SIGTRAP | 0x80); }
bool Stop::signal_stop(int number) const { return stopped() && event() == 0 && signal() == number; }

// The first stretch spins: stops arrive within microseconds, and a blocking wait with a deadline would need
// SIGCHLD machinery. Later stretches sleep.
Stop wait_stop(pid_t tid, std::chrono::milliseconds limit) {
  const std::uint64_t deadline = monotonic_ns() + static_cast<std::uint64_t>(limit.count()) * 1'000'000u;
  for (int spin = 0;; spin++) {
    int status = 0;
    const pid_t got = ::waitpid(tid, &status, __WALL | WNOHANG);
    if (got == tid) return Stop(status);
    if (got < 0 && errno != EINTR) check(got, "wait for thread {}", tid);
    if (spin < 2000) {
      ::sched_yield();
      continue;
    }
    if (monotonic_ns() > deadline) fail(Errc::timed_out, "thread {} did not stop within {} ms", tid, limit.count());
    const timespec nap{0, 50'000};
    ::nanosleep(&nap, nullptr);
  }
}

long trace(int request, pid_t tid, unsigned long addr, unsigned long data, const char* what) {
  return check(::ptrace(static_cast<__ptrace_request>(request), tid, addr, data), "{} thread {}", what, tid);
}

Regs get_regs(pid_t tid) {
  Regs regs{};
  iovec view{&regs, sizeof regs};
  trace(PTRACE_GETREGSET, tid, NT_PRSTATUS, reinterpret_cast<unsigned long>(&view), "read registers of");
  return regs;
}

void set_regs(pid_t tid, const Regs& regs) {
  iovec view{const_cast<Regs*>(&regs), sizeof regs};
  trace(PTRACE_SETREGSET, tid, NT_PRSTATUS, reinterpret_cast<unsigned long>(&view), "write registers of");
}

}  // namespace godwit::engine
