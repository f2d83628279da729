#include "agent/engine/ptrace/tracing.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <set>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t latest_brought_ns = 5'000'000;

[[noreturn]] void refuse_seize(pid_t pid, int error) {
  const proc::Reader proc(pid);
  constexpr std::uint64_t exiting = 0x4;  // PF_EXITING: from then on nobody may trace it (EPERM)
  if (proc.stat().flags & exiting) fail(Errc::target_gone, "process {} has ended", pid);
  const pid_t tracer = proc.status().tracer_pid;
  if (tracer)
    throw Error(Errc::busy,
                fmt::format("process {} is traced by process {} ({})", pid, tracer, proc::Reader(tracer).comm()),
                "detach the debugger and try again");
  throw syscall_error(error, fmt::format("trace process {}", pid));
}

// One more thread that has not stopped yet: true when it is done with (stopped, or gone).
enum class Progress { waiting = 1, stopped, gone };
Progress advance(pid_t tid) {
  int status = 0;
  const pid_t got = ::waitpid(tid, &status, __WALL | WNOHANG);
  if (got == 0 || (got < 0 && errno == EINTR)) return Progress::waiting;
  if (got < 0) return Progress::gone;
  const Stop stop(status);
  if (stop.gone()) return Progress::gone;
  if (stop.trap_stop()) return Progress::stopped;
  // A signal on its way to the thread, SIGSTOP among them: let it arrive as if nobody were tracing.
  ::ptrace(PTRACE_CONT, tid, 0, stop.syscall_stop() ? 0 : stop.signal());
  return Progress::waiting;
}

// What it does instead: "state D in folio_wait_bit_common".
std::string where_it_is(pid_t pid, pid_t tid) {
  try {
    const char state = proc::Reader(pid, tid).status().state;
    const std::string waits_in = read_file(fmt::format("/proc/{}/task/{}/wchan", pid, tid));
    return waits_in == "0" ? fmt::format("state {}", state) : fmt::format("state {} in {}", state, waits_in);
  } catch (const Error& e) {
    return e.message();
  }
}

[[noreturn]] void fail_to_stop(pid_t pid, pid_t tid, std::chrono::milliseconds limit) {
  throw Error(Errc::timed_out,
              fmt::format("thread {} of process {} did not stop within {} ms: {}", tid, pid, limit.count(),
                          where_it_is(pid, tid)),
              "a thread in vfork() stops only when its child has run another program");
}

// Of a thread in a trap stop: the group stop that it is in has ended, or begun anew.
bool has_news(pid_t tid) {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(tid), &info, WSTOPPED | WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 &&
         info.si_pid != 0;
}

bool any_queued(pid_t tid, int number) {
  const auto in = [&](SignalQueue queue) {
    return std::ranges::any_of(queued_signals(tid, queue), [&](const Siginfo& s) { return s.number() == number; });
  };
  return in(SignalQueue::thread) || in(SignalQueue::process);
}

}  // namespace

std::vector<pid_t> seize_threads(pid_t pid, unsigned long options, bool interrupt, std::chrono::milliseconds limit,
                                 const Bringing* bringing) {
  const std::uint64_t begun = monotonic_ns();
  const std::uint64_t deadline = begun + static_cast<std::uint64_t>(limit.count()) * 1'000'000;
  const proc::Reader proc(pid);
  std::set<pid_t> seen;
  std::vector<pid_t> stopped;
  std::vector<pid_t> waiting;
  const auto give_up_bringing = [&] { std::exchange(bringing, nullptr)->give_up(); };
  try {
    for (bool changed = true; changed;) {
      changed = false;
      for (const pid_t tid : proc.threads()) {
        if (!seen.insert(tid).second) continue;
        changed = true;
        if (bringing && !stopped.empty() && has_news(stopped.front())) give_up_bringing();
        if (bringing) bringing->bring(tid);
        if (::ptrace(PTRACE_SEIZE, tid, 0, options) != 0) {
          if (errno == ESRCH) continue;  // ended meanwhile
          refuse_seize(pid, errno);
        }
        if (interrupt) ::ptrace(PTRACE_INTERRUPT, tid, 0, 0);
        const Progress p = advance(tid);  // what had stopped is in its trap stop already
        if (p == Progress::stopped) stopped.push_back(tid);
        if (p == Progress::waiting) waiting.push_back(tid);
      }
      while (!waiting.empty()) {
        std::erase_if(waiting, [&](pid_t tid) {
          const Progress p = advance(tid);
          if (p == Progress::stopped) stopped.push_back(tid);
          return p != Progress::waiting;
        });
        if (waiting.empty()) break;
        if (monotonic_ns() > deadline) fail_to_stop(pid, waiting[0], limit);
        wait_for_change(std::chrono::milliseconds(1));
      }
    }
    if (std::ranges::find(stopped, pid) == stopped.end())
      fail(Errc::target_gone, "the first thread of process {} has ended", pid);
  } catch (...) {
    detach_threads(stopped);
    // A running thread cannot be detached: stop it first, as far as it will.
    for (const pid_t tid : waiting) {
      ::ptrace(PTRACE_INTERRUPT, tid, 0, 0);
      for (int i = 0; i < 1000 && advance(tid) == Progress::waiting; i++) ::usleep(50);
    }
    detach_threads(waiting);
    throw;
  }
  std::ranges::sort(stopped, [&](pid_t a, pid_t b) { return std::pair(a != pid, a) < std::pair(b != pid, b); });
  return stopped;
}

GroupStop wait_group_stop(pid_t pid, std::chrono::milliseconds time) {
  const std::uint64_t end = monotonic_ns() + static_cast<std::uint64_t>(time.count()) * 1'000'000;
  const UniqueFd stat = proc::Reader(pid, pid).open("stat", O_RDONLY);
  for (;;) {
    std::array<char, 64> text;  // the name takes at most 17
    const ssize_t n = ::pread(stat.get(), text.data(), text.size(), 0);
    if (n < 0 && errno == ESRCH) return GroupStop::begun;
    const std::string_view found(text.data(), static_cast<std::size_t>(check(n, "read the state of process {}", pid)));
    const std::size_t at = found.rfind(") ");
    if (at == found.npos || at + 2 >= found.size()) fail(Errc::internal, "cannot understand /proc stat: \"{}\"", found);
    const char state = found[at + 2];
    if (std::string_view("TtZX").contains(state)) return GroupStop::begun;
    if (monotonic_ns() > end) return state == 'D' ? GroupStop::held_up : GroupStop::awaited;
    ::usleep(10);  // not a yield: it may be waiting for this CPU
  }
}

// An engine that may not is no worse off where there is nothing to pass.
void suspend_filters(pid_t pid, pid_t tid) {
  if (::ptrace(PTRACE_SETOPTIONS, tid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP) == 0) return;
  const int error = errno;
  if (error == ESRCH) fail(Errc::target_gone, "thread {} ended", tid);
  if (proc::Reader(pid, tid).status().seccomp == 0) return;
  throw Error(Errc::refused, fmt::format("the seccomp filters of thread {} cannot be suspended", tid),
              "run the engine with CAP_SYS_ADMIN and without a filter of its own")
      .with_errno(error);
}

std::uint64_t get_sigmask(pid_t tid) {
  std::uint64_t mask = 0;
  trace(PTRACE_GETSIGMASK, tid, sizeof mask, reinterpret_cast<unsigned long>(&mask), "read the signal mask of");
  return mask;
}

void set_sigmask(pid_t tid, std::uint64_t mask) {
  trace(PTRACE_SETSIGMASK, tid, sizeof mask, reinterpret_cast<unsigned long>(&mask), "set the signal mask of");
}

std::vector<Siginfo> queued_signals(pid_t tid, SignalQueue queue) {
  constexpr std::size_t at_once = 32;
  std::vector<Siginfo> all;
  __ptrace_peeksiginfo_args args{};
  args.nr = at_once;
  args.flags = queue == SignalQueue::process ? PTRACE_PEEKSIGINFO_SHARED : 0;
  for (;;) {
    Siginfo infos[at_once];
    const long n = trace(PTRACE_PEEKSIGINFO, tid, reinterpret_cast<unsigned long>(&args),
                         reinterpret_cast<unsigned long>(infos), "read the queued signals of");
    if (n <= 0) return all;
    all.insert(all.end(), infos, infos + n);
    args.off += static_cast<std::uint64_t>(n);
  }
}

void take_signal(pid_t tid, int number) {
  for (int tries = 0;; tries++) {
    trace(PTRACE_CONT, tid, 0, 0, "continue");
    const Stop stop = wait_stop(tid);
    if (stop.gone()) fail(Errc::target_gone, "thread {} ended", tid);
    if (stop.signal_stop(number)) return;
    if (tries == 10) fail(Errc::internal, "thread {} did not take signal {} (status {:#x})", tid, number, stop.raw());
  }
}

void to_trap_stop(pid_t tid, int number) {
  trace(PTRACE_INTERRUPT, tid, 0, 0, "interrupt");
  trace(PTRACE_CONT, tid, 0, static_cast<unsigned long>(number), "continue");
  const Stop stop = wait_stop(tid);
  if (!stop.trap_stop()) fail(Errc::target_gone, "thread {} stopped with status {:#x}", tid, stop.raw());
}

void swallow_sigcont(pid_t pid, pid_t tid) {
  const std::uint64_t mask = get_sigmask(tid);
  set_sigmask(tid, all_signals & ~signal_bit(SIGCONT));
  check(::kill(pid, SIGCONT), "continue process {}", pid);
  take_signal(tid, SIGCONT);
  // Somebody else's may have been in the thread's own queue, which comes first.
  if (any_queued(tid, SIGCONT)) take_signal(tid, SIGCONT);
  to_trap_stop(tid, 0);
  set_sigmask(tid, mask);
}

void detach_threads(std::span<const pid_t> tids) noexcept {
  for (const pid_t tid : tids)
    if (::ptrace(PTRACE_DETACH, tid, 0, 0) != 0 && errno != ESRCH)
      log::warn("hold.not_detached", {{"tid", tid}, {"errno", errno}});
}

}  // namespace godwit::engine
