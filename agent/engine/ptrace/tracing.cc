#include "agent/engine/ptrace/tracing.h"

#include "agent/engine/ptrace/seize_call.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <iterator>
#include <set>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

[[noreturn]] void refuse_seize(pid_t pid, int error) {
  if (is_ending(pid)) fail(Errc::target_gone, "process {} has ended", pid);
  const proc::Reader proc(pid);
  const pid_t tracer = proc.status().tracer_pid;
  if (tracer)
    throw Error(Errc::busy,
                fmt::format("process {} is traced by process {} ({})", pid, tracer, proc::Reader(tracer).comm()),
                "detach the debugger and try again");
  throw syscall_error(error, fmt::format("trace process {}", pid));
}

// One more thread that has not stopped yet, and its trap stop when it has.
enum class Progress { waiting = 1, stopped, gone };
struct Advance {
  Progress progress;
  int signal = 0;  // of the trap stop: that of the group stop which it is in as well, or SIGTRAP
};
Advance advance(pid_t tid) {
  int status = 0;
  const pid_t got = ::waitpid(tid, &status, __WALL | WNOHANG);
  if (got == 0 || (got < 0 && errno == EINTR)) return {Progress::waiting};
  if (got < 0) return {Progress::gone};
  const Stop stop(status);
  if (stop.gone()) return {Progress::gone};
  if (stop.trap_stop()) return {Progress::stopped, stop.signal()};
  // A signal on its way to the thread, SIGSTOP among them: let it arrive as if nobody were tracing.
  ::ptrace(PTRACE_CONT, tid, 0, stop.syscall_stop() ? 0 : stop.signal());
  return {Progress::waiting};
}

bool is_ours(pid_t tid) { return proc::Reader(tid).status().tracer_pid == ::gettid(); }

// Its end is for whoever waits for it as its parent, which is this process.
bool is_child(pid_t tid) {
  try {
    const proc::Reader proc(tid);
    return proc.status().tgid == tid && proc.stat().ppid == ::getpid();
  } catch (const Error&) {
    return false;
  }
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

// The threads of a process, seized one by one.
class Seizing {
 public:
  Seizing(pid_t pid, unsigned long options, const StopLimit& limit, const Escort& escort)
      : pid_(pid), options_(options), limit_(limit), escort_(escort) {}
  ~Seizing() { let_go(); }
  Seizing(const Seizing&) = delete;
  Seizing& operator=(const Seizing&) = delete;

  std::vector<pid_t> not_seized() {
    look_at_first();
    std::vector<pid_t> all = proc::Reader(pid_).threads();
    std::erase_if(all, [&](pid_t tid) { return seen_.contains(tid); });
    return all;
  }

  // Whether it stands already, as one in a group stop does.
  bool seize(pid_t tid) {
    seen_.insert(tid);
    escort_.bring(tid);
    const int error = call_(tid, options_);
    if (error && tid == pid_ && is_ours(pid_)) {  // it was seized as another one
      waiting_.push_back(pid_);
      interrupt(pid_);
    } else if (error == EINTR) {
      throw Error(Errc::timed_out,
                  fmt::format("process {} could not be traced within {} ms: an exec is under way in it", pid_,
                              limit_.limit.count()),
                  "the new program's file may be on storage that does not answer");
    } else if (error) {
      if (error != ESRCH && (tid == pid_ || !is_ending(tid))) try_again_or_refuse(tid, error);
    } else {
      waiting_.push_back(tid);
      if (look_at(waiting_.size() - 1)) return true;
    }
    escort_.runs(tid);
    return false;
  }
  void interrupt(pid_t tid) { ::ptrace(PTRACE_INTERRUPT, tid, 0, 0); }

  bool all_stand() const { return waiting_.empty(); }
  // For one more to stop, or for a millisecond.
  void wait() {
    if (limit_.over()) fail_to_stop(pid_, waiting_.at(0), limit_);
    wait_for_change(std::chrono::milliseconds(1));
    look();
  }
  void look() {
    const std::size_t before = waiting_.size();
    for (std::size_t i = before; i-- > 0;) look_at(i);
    if (waiting_.size() == before || call_.took_notice()) look_at_stopped();
  }

  // One thread makes another trap stop, and shows by it whether it is in a group stop. In turn: it is one more switch
  // of a thread (interrupted_call.cc).
  void ask() {
    look_at_first();
    bool goes_on = false;  // not when it has been killed
    while (!goes_on && !stopped_.empty()) {
      const pid_t tid = stopped_.front();
      stopped_.erase(stopped_.begin());
      waiting_.push_back(tid);
      interrupt(tid);
      goes_on = ::ptrace(PTRACE_CONT, tid, 0, 0) == 0;
    }
    if (goes_on) return;
    for (const pid_t tid : waiting_) interrupt(tid);
  }
  bool one_is_in_no_group_stop() const { return in_no_stop_; }

  void stop_all() {
    for (const pid_t tid : waiting_) interrupt(tid);
    while (!all_stand()) wait();
  }
  // Whoever runs is stopped for it, as far as it will; who does not is traced still.
  void let_go() noexcept {
    for (const pid_t tid : waiting_) interrupt(tid);
    for (int looks = 0; !waiting_.empty() && looks < 1000; looks++) {  // a signal on its way is not to be dropped
      look();
      if (!waiting_.empty()) ::usleep(50);
    }
    std::ranges::copy(std::exchange(waiting_, {}), std::back_inserter(stopped_));
    detach_threads(std::exchange(stopped_, {}));
  }

  // The first one first. They stay seized.
  std::vector<pid_t> take() {
    if (std::ranges::find(stopped_, pid_) == stopped_.end())
      fail(Errc::target_gone, "the first thread of process {} has ended", pid_);
    std::ranges::sort(stopped_, [&](pid_t a, pid_t b) { return std::pair(a != pid_, a) < std::pair(b != pid_, b); });
    return std::exchange(stopped_, {});
  }

 private:
  bool look_at(std::size_t at) {
    const pid_t tid = waiting_[at];
    const Progress now = progress_of(tid);
    if (now == Progress::waiting) return false;
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(at));
    if (now == Progress::stopped) stopped_.push_back(tid);
    return now == Progress::stopped;
  }
  // Who has been killed: an exec waits until its tracer has taken notice of all other threads.
  void look_at_stopped() {
    std::erase_if(stopped_, [&](pid_t tid) { return progress_of(tid) == Progress::gone; });
  }
  Progress progress_of(pid_t tid) {
    const Advance now = advance(tid);
    in_no_stop_ |= now.progress == Progress::stopped && now.signal == SIGTRAP;
    if (now.progress != Progress::gone) return now.progress;
    if (tid == pid_ && !has_ended(pid_)) seen_.erase(pid_);   // it is another one now
    if (tid != pid_ && is_waited_for(pid_)) interrupt(pid_);  // maybe it is `tid` now, and its exec has forgotten it
    return now.progress;
  }

  bool is_waited_for(pid_t tid) const { return std::ranges::find(waiting_, tid) != waiting_.end(); }
  // The exec of another thread ends the first one and gives its TID to that thread, which may be seized already, and
  // run.
  void look_at_first() {
    const auto first = std::ranges::find(stopped_, pid_);
    unsigned long message = 0;
    if (first == stopped_.end() || ::ptrace(PTRACE_GETEVENTMSG, pid_, 0, &message) == 0) return;
    stopped_.erase(first);
    waiting_.push_back(pid_);
    for (const StopLimit exec(std::chrono::milliseconds(100));
         is_waited_for(pid_) && is_ending(pid_) && !exec.over();) {
      wait_for_change(std::chrono::milliseconds(1));
      look();
    }
    if (is_ending(pid_)) return;
    if (is_ours(pid_)) {
      if (is_waited_for(pid_)) interrupt(pid_);  // an exec forgets it, and group stops
      escort_.bring(pid_);
    } else {
      std::erase(waiting_, pid_);
      seen_.erase(pid_);
    }
  }

  // Until the exec is done nobody may trace the first thread.
  void try_again_or_refuse(pid_t tid, int error) {
    constexpr int most_tries = 5;
    if (error != EPERM || proc::Reader(pid_).status().tracer_pid || tries_++ == most_tries) refuse_seize(pid_, error);
    seen_.erase(tid);
    ::usleep(1000);
  }

  pid_t pid_;
  unsigned long options_;
  const StopLimit& limit_;
  const Escort& escort_;
  SeizeCall call_{pid_, limit_};
  std::set<pid_t> seen_;
  std::vector<pid_t> stopped_, waiting_;
  bool in_no_stop_ = false;
  int tries_ = 0;
};

}  // namespace

void fail_to_stop(pid_t pid, pid_t tid, const StopLimit& limit) {
  throw Error(Errc::timed_out,
              fmt::format("thread {} of process {} did not stop within {} ms: {}", tid, pid, limit.limit.count(),
                          where_it_is(pid, tid)),
              "a thread in vfork() stops only when its child has run another program");
}

std::vector<pid_t> seize_threads(pid_t pid, unsigned long options, const StopLimit& limit) {
  const Escort nothing;
  Seizing threads(pid, options, limit, nothing);
  for (auto more = threads.not_seized(); !more.empty() || !threads.all_stand(); more = threads.not_seized()) {
    for (const pid_t tid : more)
      if (!threads.seize(tid)) threads.interrupt(tid);
    while (!threads.all_stand()) threads.wait();
  }
  return threads.take();
}

std::optional<std::vector<pid_t>> seize_stopped_threads(pid_t pid, unsigned long options, const StopLimit& limit,
                                                        const Escort& escort) {
  Seizing threads(pid, options, limit, escort);
  for (auto more = threads.not_seized(); !more.empty() || !threads.all_stand(); more = threads.not_seized()) {
    bool all_stood = true;
    for (const pid_t tid : more)
      if (!threads.seize(tid)) all_stood = false;
    // Whoever is seized makes a trap stop when somebody continues the process; of a SIGCONT that came before the last
    // one was, one that stands tells when it is asked.
    if (!all_stood) threads.ask();
    while (!threads.all_stand() && !threads.one_is_in_no_group_stop()) threads.wait();
    if (threads.one_is_in_no_group_stop()) {
      threads.stop_all();
      escort.back();
      threads.let_go();
      return std::nullopt;
    }
  }
  return threads.take();
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

bool any_queued(pid_t tid, SignalQueue queue, int number) {
  return std::ranges::any_of(queued_signals(tid, queue), [&](const Siginfo& s) { return s.number() == number; });
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
  if (any_queued(tid, SignalQueue::thread, SIGCONT) || any_queued(tid, SignalQueue::process, SIGCONT))
    take_signal(tid, SIGCONT);
  to_trap_stop(tid, 0);
  set_sigmask(tid, mask);
}

// A thread that has been killed, or has not stopped yet, has something to tell first: it is asked for a while.
void detach_threads(std::span<const pid_t> tids) noexcept {
  const StopLimit limit(std::chrono::milliseconds(50)), limit_of_killed(std::chrono::seconds(2));
  std::vector<pid_t> left(tids.begin(), tids.end());
  const auto is_killed = [](pid_t tid) {
    try {
      return is_ending(tid);
    } catch (const Error&) {
      return false;
    }
  };
  for (;;) {
    std::erase_if(left, [](pid_t tid) {
      if (::ptrace(PTRACE_DETACH, tid, 0, 0) == 0 || is_child(tid)) return true;
      const Progress now = advance(tid).progress;
      if (now == Progress::waiting)
        ::ptrace(PTRACE_INTERRUPT, tid, 0, 0);  // it runs, when an exec has given it this TID
      return now == Progress::gone;
    });
    if (left.empty()) return;
    if (limit_of_killed.over() || (limit.over() && std::ranges::none_of(left, is_killed))) break;
    ::usleep(50);
  }
  for (const pid_t tid : left) log::warn("hold.not_detached", {{"tid", tid}});
}

}  // namespace godwit::engine
