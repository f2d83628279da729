#include "agent/engine/ptrace/seize_call.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

std::atomic<SeizeCall*> under_way;

// A call that begins again stands before its instruction: it ends instead. One that has ended stands elsewhere.
void end_call(ucontext_t& context) {
  constexpr char instruction[] = "\x0f\x05";
  greg_t& rip = context.uc_mcontext.gregs[REG_RIP];
  greg_t& rax = context.uc_mcontext.gregs[REG_RAX];
  if (rax != SYS_ptrace || std::memcmp(reinterpret_cast<const void*>(rip), instruction, 2) != 0) return;
  rip += 2;
  rax = -EINTR;
}

void handle_alarm(int, siginfo_t*, void* context) {
  const int error = errno;
  if (SeizeCall* const call = under_way)
    if (!call->look()) end_call(*static_cast<ucontext_t*>(context));
  errno = error;
}

// Of the thread that asks first for it.
class Alarm {
 public:
  Alarm() {
    struct sigaction action{};
    action.sa_sigaction = handle_alarm;
    action.sa_flags = SA_RESTART | SA_SIGINFO;
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGALRM;
    event._sigev_un._tid = ::gettid();
    // As many timers as signals may wait for a user (RLIMIT_SIGPENDING): without one, an exec may be in the way.
    there_ = ::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0 && ::sigaction(SIGALRM, &action, nullptr) == 0;
  }
  ~Alarm() {
    if (there_) ::timer_delete(timer_);
  }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  void set(long interval_ns) const {
    const timespec interval{.tv_sec = 0, .tv_nsec = interval_ns};
    const itimerspec times{interval, interval};
    if (there_) ::timer_settime(timer_, 0, &times, nullptr);
  }

 private:
  timer_t timer_{};
  bool there_ = false;
};

const Alarm& alarm_of_this_thread() {
  thread_local const Alarm alarm;
  return alarm;
}

}  // namespace

int SeizeCall::operator()(pid_t tid, unsigned long options) {
  if (!alarm_set_) alarm_of_this_thread().set(10'000'000);
  alarm_set_ = true;
  under_way = this;
  const int error = ::ptrace(PTRACE_SEIZE, tid, 0, options) == 0 ? 0 : errno;
  under_way = nullptr;
  if (!error && tid != pid_) others_.push_back(tid);
  return error;
}

SeizeCall::~SeizeCall() {
  if (alarm_set_) alarm_of_this_thread().set(0);
}

// What stops meanwhile is told to whoever asks for it later. Of a tracee, a stop is told also to who asks for ends
// alone: so nothing is taken until it is seen to be one.
bool SeizeCall::look() noexcept {
  for (const pid_t tid : others_) {
    const auto id = static_cast<id_t>(tid);
    siginfo_t info{};
    if (::waitid(P_PID, id, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0 || info.si_pid != tid) continue;
    if (info.si_code != CLD_EXITED && info.si_code != CLD_KILLED && info.si_code != CLD_DUMPED) continue;
    ::waitid(P_PID, id, &info, WEXITED | WNOHANG | __WALL);
    took_notice_ = true;
  }
  return !limit_.over();
}

}  // namespace godwit::engine
