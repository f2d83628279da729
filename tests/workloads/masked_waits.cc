// Checks: waits under a temporary signal mask (sigsuspend, ppoll, pselect, epoll_pwait): they go on, end only by the
// signal that they let through, and the thread's own mask is in force again afterwards.

#include "tests/workloads/blocked_call.h"

#include <csignal>
#include <list>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>

using namespace godwit::workloads;

namespace {

std::atomic<int> handled = 0;

// Runs `wait` with SIGUSR2 blocked; fails when the mask is another one afterwards.
template <class Wait>
long masked(Wait wait) {
  sigset_t own, open, after;
  sigemptyset(&own);
  sigaddset(&own, SIGUSR2);
  sigaddset(&own, SIGUSR1);
  pthread_sigmask(SIG_SETMASK, &own, nullptr);
  sigemptyset(&open);
  sigaddset(&open, SIGHUP);
  const long result = wait(&open);
  const int error = errno;
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  for (int s = 1; s <= SIGRTMAX; ++s) {
    if (sigismember(&own, s) != sigismember(&after, s)) return -1000 - s;
  }
  errno = error;
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  struct sigaction action{};
  action.sa_handler = [](int) { ++handled; };
  must(sigaction(SIGUSR2, &action, nullptr), "sigaction");
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR2);
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);

  std::list<BlockedCall> calls;
  calls.emplace_back("sigsuspend", [] { return masked([](const sigset_t* open) { return sigsuspend(open); }); });
  calls.emplace_back("ppoll",
                     [] { return masked([](const sigset_t* open) { return ppoll(nullptr, 0, nullptr, open); }); });
  calls.emplace_back("pselect", [] {
    return masked([](const sigset_t* open) { return pselect(0, nullptr, nullptr, nullptr, nullptr, open); });
  });
  calls.emplace_back("epoll_pwait", [] {
    return masked([](const sigset_t* open) {
      epoll_event event;
      return epoll_pwait(epoll_create1(EPOLL_CLOEXEC), &event, 1, -1, open);
    });
  });
  for (const BlockedCall& call : calls) call.settle();

  w.ready();
  w.wait_for_verify();
  for (const BlockedCall& call : calls) call.still_blocked(w);
  int sent = 0;
  for (const BlockedCall& call : calls) {
    if (call.returned()) continue;
    w.check(syscall(SYS_tgkill, getpid(), call.tid(), SIGUSR2) == 0, "tgkill: %m");
    ++sent;
    call.comes_back(w, -EINTR);
  }
  w.check(handled == sent, "%d signals were sent, the handler ran %d times", sent, handled.load());
  return w.finish();
}
