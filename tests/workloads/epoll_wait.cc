// Checks: epoll_wait, epoll_pwait and epoll_pwait2, with and without timeout: no EINTR, the right length and event.

#include "tests/workloads/waits.h"

#include <csignal>
#include <sys/epoll.h>
#include <sys/eventfd.h>

using namespace godwit::workloads;

namespace {

constexpr int seconds = Waits::seconds;
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
  Waits waits;
  // An epoll wakes one waiter per event, so each waiter has its own.
  const int a = watch(later), b = watch(later), c = watch(later), d = watch(later), silent = watch(never);
  waits.endless.emplace_back("epoll_wait", [=] { return by_wait(a, -1); });
  waits.endless.emplace_back("epoll_pwait", [=] { return by_pwait(b, -1); });
  waits.endless.emplace_back("epoll_pwait2", [=] { return by_pwait2(c, nullptr); });
  waits.endless.emplace_back("epoll_wait with a very long timeout", [=] { return by_wait(d, 3600'000); });
  waits.timed.emplace_back("epoll_wait with a timeout", [=] { return by_wait(silent, seconds * 1000); });
  waits.timed.emplace_back("epoll_pwait with a timeout", [=] { return by_pwait(silent, seconds * 1000); });
  waits.timed.emplace_back("epoll_pwait2 with a timeout", [=] {
    const timespec timeout{seconds, 0};
    return by_pwait2(silent, &timeout);
  });
  waits.across_the_move(w, [&] { w.check(eventfd_write(later, 1) == 0, "eventfd_write: %m"); });
  return w.finish();
}
