// Checks: epoll_wait, epoll_pwait and epoll_pwait2, with and without timeout: no EINTR, the right length and event.

#include "tests/workloads/blocked_call.h"

#include <csignal>
#include <list>
#include <sys/epoll.h>
#include <sys/eventfd.h>

using namespace godwit::workloads;

namespace {

constexpr int seconds = 3;
constexpr double before_ready = 1.2;
constexpr std::uint64_t key = 0xfeed'face'cafe'beef;

// What the wait returned, or -1000 when the event is not the one that was asked for.
long judge(int ready, const epoll_event& event) {
  return ready == 1 && (event.events != EPOLLIN || event.data.u64 != key) ? -1000 : ready;
}

long by_wait(int epoll, int timeout_ms) {
  epoll_event event;
  const int ready = epoll_wait(epoll, &event, 1, timeout_ms);
  return judge(ready, event);
}

long by_pwait(int epoll, int timeout_ms) {
  epoll_event event;
  sigset_t mask;
  sigfillset(&mask);
  const int ready = epoll_pwait(epoll, &event, 1, timeout_ms, &mask);
  return judge(ready, event);
}

long by_pwait2(int epoll, const timespec* timeout) {
  epoll_event event;
  const int ready = epoll_pwait2(epoll, &event, 1, timeout, nullptr);
  return judge(ready, event);
}

int watch(int fd) {
  const int epoll = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  epoll_event event{EPOLLIN, {.u64 = key}};
  must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
  return epoll;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int later = must(eventfd(0, EFD_CLOEXEC), "eventfd");
  const int never = must(eventfd(0, EFD_CLOEXEC), "eventfd");
  std::list<BlockedCall> endless, timed;
  // An epoll wakes one waiter per event, so each waiter has its own.
  const int a = watch(later), b = watch(later), c = watch(later), d = watch(later), silent = watch(never);
  endless.emplace_back("epoll_wait", [=] { return by_wait(a, -1); });
  endless.emplace_back("epoll_pwait", [=] { return by_pwait(b, -1); });
  endless.emplace_back("epoll_pwait2", [=] { return by_pwait2(c, nullptr); });
  endless.emplace_back("epoll_wait with a very long timeout", [=] { return by_wait(d, 3600'000); });
  timed.emplace_back("epoll_wait with a timeout", [=] { return by_wait(silent, seconds * 1000); });
  timed.emplace_back("epoll_pwait with a timeout", [=] { return by_pwait(silent, seconds * 1000); });
  timed.emplace_back("epoll_pwait2 with a timeout", [=] {
    const timespec timeout{seconds, 0};
    return by_pwait2(silent, &timeout);
  });
  for (const BlockedCall& call : endless) call.settle();
  for (const BlockedCall& call : timed) call.settle();
  pause_for(before_ready);

  w.ready();
  w.wait_for_verify();
  for (const BlockedCall& call : endless) call.still_blocked(w);
  w.check(eventfd_write(later, 1) == 0, "eventfd_write: %m");
  for (const BlockedCall& call : endless) call.comes_back(w, 1);
  for (const BlockedCall& call : timed) {
    if (call.comes_back(w, 0, seconds + 5)) call.took(w, seconds);
  }
  return w.finish();
}
