// Checks: rt_sigtimedwait, with and without timeout: no EINTR, the right length, the right signal when it comes.

#include "tests/workloads/blocked_call.h"

#include <csignal>
#include <list>

using namespace godwit::workloads;

namespace {

constexpr int seconds = 3;
constexpr double before_ready = 1.2;

long wait_for(int signal, const timespec* timeout) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  siginfo_t info;
  const int got = sigtimedwait(&set, &info, timeout);
  return got == signal && info.si_value.sival_int != signal * 10 ? -1000 : got;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  const int endless_signal = SIGRTMIN + 3;
  const int long_signal = SIGRTMIN + 4;
  BlockedCall endless("sigtimedwait", [=] { return wait_for(endless_signal, nullptr); });
  BlockedCall long_wait("sigtimedwait with a very long timeout", [=] {
    const timespec timeout{3600, 0};
    return wait_for(long_signal, &timeout);
  });
  BlockedCall timed("sigtimedwait with a timeout", [] {
    const timespec timeout{seconds, 0};
    return wait_for(SIGRTMIN + 5, &timeout);
  });
  for (const BlockedCall* call : {&endless, &long_wait, &timed}) call->settle();
  pause_for(before_ready);

  w.ready();
  w.wait_for_verify();
  endless.still_blocked(w);
  long_wait.still_blocked(w);
  for (const int signal : {endless_signal, long_signal}) {
    w.check(sigqueue(getpid(), signal, {.sival_int = signal * 10}) == 0, "sigqueue: %m");
  }
  endless.comes_back(w, endless_signal);
  long_wait.comes_back(w, long_signal);
  if (timed.comes_back(w, -EAGAIN, seconds + 5)) timed.took(w, seconds);
  return w.finish();
}
