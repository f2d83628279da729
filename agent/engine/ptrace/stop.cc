#include "agent/engine/ptrace/stop.h"

#include "common/base/check.h"
#include "common/base/units.h"
#include "common/proc/reader.h"

#include <bit>
#include <csignal>
#include <elf.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

namespace godwit::engine {

bool has_ended(pid_t tid) {
  try {
    const char state = proc::Reader(tid).status().state;
    return state == 'Z' || state == 'X';
  } catch (const Error&) {
    return true;
  }
}

bool is_ending(pid_t tid) {
  constexpr std::uint64_t exiting = 0x4;  // PF_EXITING
  try {
    const proc::Reader proc(tid);
    const proc::Status s = proc.status();
    return s.state == 'Z' || s.state == 'X' || (proc.stat().flags & exiting) != 0 ||
           ((s.sig_pending | s.shared_sig_pending) >> (SIGKILL - 1) & 1) != 0;
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone) throw;
    return true;
  }
}

bool Stop::trap_stop() const { return stopped() && event() == PTRACE_EVENT_STOP; }
bool Stop::syscall_stop() const { return stopped() && signal() == (SIGTRAP | 0x80); }
bool Stop::signal_stop(int number) const { return stopped() && event() == 0 && signal() == number; }

void wait_for_change(std::chrono::microseconds limit) {
  sigset_t child, before;
  ::sigemptyset(&child);
  ::sigaddset(&child, SIGCHLD);
  ::pthread_sigmask(SIG_BLOCK, &child, &before);     // blocked, it stays until it is taken: none is missed
  if (::sigismember(&before, SIGCHLD) == 0) return;  // but for one that came before: look again
  const timespec t{static_cast<time_t>(limit.count() / 1'000'000), static_cast<long>(limit.count() % 1'000'000) * 1000};
  ::sigtimedwait(&child, nullptr, &t);
}

// Sleeping rather than spinning: engine and tracee are mostly on one CPU, and whoever spins there keeps the other off
// it.
Stop wait_stop(pid_t tid, std::chrono::milliseconds limit) {
  constexpr std::uint64_t doubt_after_ns = 20'000'000;
  std::uint64_t next_doubt = monotonic_ns() + doubt_after_ns;
  const std::uint64_t deadline = monotonic_ns() + static_cast<std::uint64_t>(limit.count()) * 1'000'000u;
  int status = 0;
  const auto has_told = [&] {
    const pid_t got = ::waitpid(tid, &status, __WALL | WNOHANG);
    if (got < 0 && errno != EINTR) check(got, "wait for thread {}", tid);
    return got == tid;
  };
  for (;;) {
    if (has_told()) return Stop(status);
    if (monotonic_ns() > deadline) fail(Errc::timed_out, "thread {} did not stop within {} ms", tid, limit.count());
    wait_for_change(std::chrono::milliseconds(2));
    if (monotonic_ns() < next_doubt) continue;
    // Of a first thread that has ended the kernel tells only when all others have been waited for.
    const bool ended = has_ended(tid);
    if (has_told()) return Stop(status);
    if (ended) fail(Errc::target_gone, "thread {} has ended", tid);
    next_doubt = monotonic_ns() + doubt_after_ns;
  }
}

long trace(int request, pid_t tid, unsigned long addr, unsigned long data, const char* what) {
  return check(::ptrace(static_cast<__ptrace_request>(request), tid, addr, data), "{} thread {}", what, tid);
}

int Siginfo::number() const {
  static_assert(sizeof(Siginfo) == sizeof(siginfo_t) && alignof(Siginfo) == alignof(siginfo_t));
  return std::bit_cast<siginfo_t>(*this).si_signo;
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
