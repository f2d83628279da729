#include "agent/engine/ptrace/tracing.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <deque>
#include <set>

#include <sys/ptrace.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

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

// One that has not stopped yet.
enum class Progress { waiting = 1, passed_stop, stopped, gone };
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
  return stop.signal_stop(SIGSTOP) ? Progress::passed_stop : Progress::waiting;
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

class Seizing {
 public:
  Seizing(pid_t pid, unsigned long options, bool interrupt, std::chrono::milliseconds limit)
      : pid_(pid),
        proc_(pid),
        options_(options),
        interrupt_(interrupt),
        limit_(limit),
        deadline_(monotonic_ns() + static_cast<std::uint64_t>(limit.count()) * 1'000'000),
        all_stop_(interrupt) {}

  // `stop`, if any, is called once, as soon as all that are there are seized. Nothing, when it says so.
  std::vector<pid_t> all(const std::function<bool()>& stop) {
    try {
      for (bool called = false; seize_new(); called = true) {
        if (stop && !called && !stop()) {
          let_go();
          return {};
        }
        wait();
      }
      if (std::ranges::find(stopped_, pid_) == stopped_.end())
        fail(Errc::target_gone, "the first thread of process {} has ended", pid_);
    } catch (...) {
      let_go();
      throw;
    }
    std::ranges::sort(stopped_, [&](pid_t a, pid_t b) { return std::pair(a != pid_, a) < std::pair(b != pid_, b); });
    return std::move(stopped_);
  }

 private:
  // Whether there are any.
  bool seize_new() {
    bool any = false;
    for (const pid_t tid : proc_.threads()) {
      if (!seen_.insert(tid).second) continue;
      any = true;
      if (::ptrace(PTRACE_SEIZE, tid, 0, options_) != 0) {
        if (errno == ESRCH) continue;  // ended meanwhile
        refuse_seize(pid_, errno);
      }
      waiting_.push_back(tid);
      if (interrupt_) ::ptrace(PTRACE_INTERRUPT, tid, 0, 0);
    }
    return any;
  }

  // One thread that takes the SIGSTOP stops all others: it may be any. From then on they are asked in turn: there may
  // be thousands, and the stop of each ends a wait. All of them again when nothing comes of that.
  void wait() {
    constexpr std::uint64_t soon_ns = 1'000'000;
    for (std::uint64_t moved = monotonic_ns();;) {
      const std::size_t before = waiting_.size();
      look(!all_stop_ || monotonic_ns() - moved > soon_ns);
      if (waiting_.empty()) return;
      const std::uint64_t now = monotonic_ns();
      if (waiting_.size() != before) moved = now;
      if (now > deadline_)
        throw Error(Errc::timed_out,
                    fmt::format("thread {} of process {} did not stop within {} ms: {}", waiting_.front(), pid_,
                                limit_.count(), where_it_is(pid_, waiting_.front())),
                    "a thread in vfork() stops only when its child has run another program");
      wait_for_change(std::chrono::milliseconds(1));
    }
  }

  // At those that do not stand still yet, or up to the first one that does not.
  void look(bool at_all) {
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      const Progress p = advance(*it);
      if (p == Progress::passed_stop || p == Progress::stopped) all_stop_ = true;
      if (p == Progress::stopped) stopped_.push_back(*it);
      if (p == Progress::stopped || p == Progress::gone) {
        it = waiting_.erase(it);
        continue;
      }
      if (!at_all) return;
      ++it;
    }
  }

  void let_go() {
    detach_threads(stopped_);
    // A running thread cannot be detached: stop it first, as far as it will.
    for (const pid_t tid : waiting_) {
      ::ptrace(PTRACE_INTERRUPT, tid, 0, 0);
      for (int i = 0; i < 1000; i++) {
        const Progress p = advance(tid);
        if (p == Progress::stopped || p == Progress::gone) break;
        ::usleep(50);
      }
    }
    const std::vector<pid_t> left(waiting_.begin(), waiting_.end());
    detach_threads(left);
  }

  const pid_t pid_;
  const proc::Reader proc_;
  const unsigned long options_;
  const bool interrupt_;
  const std::chrono::milliseconds limit_;
  const std::uint64_t deadline_;
  bool all_stop_;  // none has to be let on first for the others to stop
  std::set<pid_t> seen_;
  std::deque<pid_t> waiting_;
  std::vector<pid_t> stopped_;
};

bool any_queued(pid_t tid, int number) {
  const auto in = [&](SignalQueue queue) {
    return std::ranges::any_of(queued_signals(tid, queue), [&](const Siginfo& s) { return s.number() == number; });
  };
  return in(SignalQueue::thread) || in(SignalQueue::process);
}

}  // namespace

std::vector<pid_t> seize_threads(pid_t pid, unsigned long options, bool interrupt, std::chrono::milliseconds limit) {
  Seizing seizing(pid, options, interrupt, limit);
  return seizing.all({});
}

std::vector<pid_t> seize_and_stop(pid_t pid, unsigned long options, std::chrono::milliseconds limit,
                                  const std::function<bool()>& stop) {
  Seizing seizing(pid, options, false, limit);
  return seizing.all(stop);
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
