// Checks: timers of each kind that expire while the process is frozen fire once after it, not never and not twice.

#include "tests/workloads/blocked_call.h"

#include <csignal>
#include <ctime>
#include <list>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr double due = 1.5;  // list.txt keeps the process dumped for longer than that

int pending(int signal, double within) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  siginfo_t info;
  const timespec limit{static_cast<time_t>(within), 0};
  return sigtimedwait(&set, &info, &limit) == signal ? info.si_value.sival_int : -1;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  const itimerspec once{{}, {1, 500'000'000}};

  BlockedCall sleeper("nanosleep", [&] { return nanosleep(&once.it_value, nullptr); });
  BlockedCall poller("poll", [] { return poll(nullptr, 0, static_cast<int>(due * 1000)); });
  sleeper.settle();
  poller.settle();
  const itimerval real{{}, {1, 500'000}};
  must(setitimer(ITIMER_REAL, &real, nullptr), "setitimer");
  timer_t timer;
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGRTMIN + 1;
  event.sigev_value.sival_int = 33;
  must(timer_create(CLOCK_MONOTONIC, &event, &timer), "timer_create");
  must(timer_settime(timer, 0, &once, nullptr), "timer_settime");
  const int monotonic = must(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create");
  const int realtime = must(timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create");
  must(timerfd_settime(monotonic, 0, &once, nullptr), "timerfd_settime");
  itimerspec at = once;
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at.it_value.tv_sec += now.tv_sec;
  must(timerfd_settime(realtime, TFD_TIMER_ABSTIME, &at, nullptr), "timerfd_settime");

  w.ready();
  w.wait_for_verify();
  if (sleeper.comes_back(w, 0)) sleeper.took(w, due);
  if (poller.comes_back(w, 0)) poller.took(w, due);
  w.check(pending(SIGALRM, 3) >= 0, "ITIMER_REAL never fired");
  w.check(pending(SIGRTMIN + 1, 3) == 33, "the POSIX timer never fired, or with another value");
  w.check(pending(SIGALRM, 0) == -1 && pending(SIGRTMIN + 1, 0) == -1, "a one-shot timer fired twice");
  for (const int fd : {monotonic, realtime}) {
    w.check(readable(fd), "the %s timerfd never fired", fd == monotonic ? "monotonic" : "real-time");
    std::uint64_t ticks = 0;
    w.check(read(fd, &ticks, 8) == 8 && ticks == 1, "the timerfd fired %llu times",
            static_cast<unsigned long long>(ticks));
    itimerspec left{};
    timerfd_gettime(fd, &left);
    w.check(left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0, "the timerfd is armed again");
  }
  return w.finish();
}
