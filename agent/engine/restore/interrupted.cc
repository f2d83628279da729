#include "agent/engine/restore/interrupted.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/units.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <optional>

#include <linux/futex.h>
#include <sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

namespace godwit::engine::interrupted {
namespace {

constexpr long restart_block = -516;                   // -ERESTART_RESTARTBLOCK
constexpr std::uint64_t patience_ns = 10'000'000'000;  // of a machine that is very busy

struct Call {
  long number = 0;
  std::array<std::uint64_t, 6> arguments{};
};

// A timeout in the task's memory, shortened by what was slept, put into scratch memory.
RemoteAddr shorten(Batch& batch, pid_t pid, std::uint64_t at, std::uint64_t slept_ns, bool absolute) {
  timespec t{};
  const iovec local{&t, sizeof t};
  const iovec remote{reinterpret_cast<void*>(at), sizeof t};
  check(::process_vm_readv(pid, &local, 1, &remote, 1, 0), "read a timeout");
  if (!absolute) {
    const std::uint64_t total =
        static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
    const std::uint64_t left = total > slept_ns + 1000 ? total - slept_ns : 1000;
    t.tv_sec = static_cast<time_t>(left / 1'000'000'000u);
    t.tv_nsec = static_cast<long>(left % 1'000'000'000u);
  }
  return batch.put(t);
}

std::optional<Call> remaining_call(Batch& batch, pid_t pid, const Regs& r, long number, std::uint64_t slept_ns) {
  Call call{number, {r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9}};
  auto& a = call.arguments;
  switch (number) {
    case SYS_nanosleep: a[0] = raw(shorten(batch, pid, a[0], slept_ns, false)); return call;
    case SYS_clock_nanosleep: a[2] = raw(shorten(batch, pid, a[2], slept_ns, a[1] & TIMER_ABSTIME)); return call;
    case SYS_futex:
      if (a[3]) a[3] = raw(shorten(batch, pid, a[3], slept_ns, (a[1] & FUTEX_CMD_MASK) != FUTEX_WAIT));
      return call;
    case SYS_poll: {
      const std::int64_t timeout = static_cast<int>(a[2]);
      const std::int64_t slept_ms = static_cast<std::int64_t>(slept_ns / 1'000'000);
      if (timeout > 0) a[2] = static_cast<std::uint64_t>(std::max<std::int64_t>(timeout - slept_ms, 0));
      return call;
    }
    default: return std::nullopt;
  }
}

std::optional<Stop> stop_of(pid_t tid) {
  int status = 0;
  if (check(::waitpid(tid, &status, __WALL | WNOHANG), "look at thread {}", tid) == 0) return std::nullopt;
  return Stop(status);
}

bool asleep(pid_t pid, pid_t tid) {
  const std::string state = read_file(fmt::format("/proc/{}/task/{}/syscall", pid, tid));
  return !state.empty() && state[0] >= '0' && state[0] <= '9';
}

}  // namespace

long rearm(RemoteSyscalls& remote, RemoteAddr scratch, const image::ThreadCoreEntry& thread, Regs& regs) {
  if (static_cast<long>(regs.rax) != restart_block || static_cast<long>(regs.orig_rax) < 0) return -1;
  Batch batch(scratch);
  const long number = thread.has_interrupted_call() ? thread.interrupted_call() : static_cast<long>(regs.orig_rax);
  const auto call = remaining_call(batch, remote.pid(), regs, number, thread.slept_ns());
  if (!call) {
    log::warn("restore.call_ends_early", {{"thread", remote.tid()}, {"call", number}, {"result", "EINTR"}});
    regs.rax = static_cast<unsigned long long>(-EINTR);
    regs.orig_rax = static_cast<unsigned long long>(-1);
    return -1;
  }
  const auto& a = call->arguments;
  const std::size_t index = batch.attempt("sleep on", number, a[0], a[1], a[2], a[3], a[4], a[5]);
  remote.start(batch);
  const std::uint64_t deadline = monotonic_ns() + patience_ns;
  for (unsigned looks = 0;; looks++) {
    std::optional<Stop> stop = stop_of(remote.tid());
    if (!stop && asleep(remote.pid(), remote.tid())) {
      trace(PTRACE_INTERRUPT, remote.tid(), 0, 0, "interrupt");
      stop = wait_stop(remote.tid());
    }
    if (!stop) {  // still on its way: on a busy machine it waits for its turn
      if (monotonic_ns() > deadline) fail(Errc::timed_out, "thread {} does not fall asleep", remote.tid());
      if (looks < 400)
        ::sched_yield();
      else
        ::usleep(100);
      continue;
    }
    if (stop->signal_stop(SIGSTOP)) {  // it was over before it slept: the stub has come to its end
      remote.collect(batch);
      regs.rax = static_cast<unsigned long long>(batch.result(index));
      regs.orig_rax = static_cast<unsigned long long>(-1);
      return -1;
    }
    if (!stop->trap_stop())
      fail(Errc::internal, "thread {} stopped with status {:#x} on its way to sleep", remote.tid(), stop->raw());
    const Regs now = get_regs(remote.tid());
    if (static_cast<long>(now.rax) == restart_block && static_cast<long>(now.orig_rax) == number) return number;
    trace(PTRACE_CONT, remote.tid(), 0, 0, "continue");  // woken before the interruption: it goes on to the end
  }
}

}  // namespace godwit::engine::interrupted
