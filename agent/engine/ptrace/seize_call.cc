#include "agent/engine/ptrace/seize_call.h"

#include "common/base/check.h"

#include <atomic>
#include <cerrno>

#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

std::atomic<const std::vector<pid_t>*> seized;  // while the call is under way, so that nothing changes them
std::atomic<bool> one_has_ended;

// What stops meanwhile is not taken notice of here: it is told to whoever asks for it later.
void take_notice(int) {
  const int error = errno;
  if (const std::vector<pid_t>* tids = seized)
    for (const pid_t tid : *tids) {
      siginfo_t info{};
      if (::waitid(P_PID, static_cast<id_t>(tid), &info, WEXITED | WNOHANG | __WALL) == 0 && info.si_pid == tid)
        one_has_ended = true;
    }
  errno = error;
}

}  // namespace

int SeizeCall::operator()(pid_t tid, unsigned long options) {
  if (!others_.empty() && !alarm_) set_alarm();  // else there is nobody of whom to take notice
  one_has_ended = false;
  seized = &others_;
  const int error = ::ptrace(PTRACE_SEIZE, tid, 0, options) == 0 ? 0 : errno;
  seized = nullptr;
  took_notice_ |= one_has_ended;
  if (!error && tid != pid_) others_.push_back(tid);
  return error;
}

void SeizeCall::set_alarm() {
  struct sigaction action{};
  action.sa_handler = take_notice;
  action.sa_flags = SA_RESTART;
  check(::sigaction(SIGALRM, &action, &before_), "handle SIGALRM");
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGALRM;
  event._sigev_un._tid = ::gettid();
  timer_t timer{};
  check(::timer_create(CLOCK_MONOTONIC, &event, &timer), "make a timer");
  alarm_ = timer;
  constexpr timespec interval{.tv_sec = 0, .tv_nsec = 10'000'000};
  const itimerspec times{interval, interval};
  check(::timer_settime(timer, 0, &times, nullptr), "set a timer");
}

SeizeCall::~SeizeCall() {
  if (!alarm_) return;
  ::timer_delete(*alarm_);
  ::sigaction(SIGALRM, &before_, nullptr);
}

}  // namespace godwit::engine
