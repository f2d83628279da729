// Checks: timerfds all of whose ticks have been read, as CRIU's images tell them rightly: clock, flags, interval and
// remaining time, no tick that was not one, and that they run on. What is unread is in timerfd.cc.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <sys/timerfd.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
constexpr timespec interval{50, 250'000'000};
constexpr double first = 600;  // seconds: nothing ticks while a busy machine moves it

double seconds(const timespec& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9; }

double left_of(int timer) {
  itimerspec left{};
  timerfd_gettime(timer, &left);
  return seconds(left.it_value);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  int timers[std::size(clocks)];
  for (std::size_t i = 0; i < std::size(clocks); ++i) {
    timers[i] = must(timerfd_create(clocks[i], TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create");
    const itimerspec soon{interval, {0, 1'000'000}};
    must(timerfd_settime(timers[i], 0, &soon, nullptr), "timerfd_settime");
    std::uint64_t ticks = 0;
    if (!readable(timers[i]) || read(timers[i], &ticks, 8) != 8 || ticks != 1) give_up("read a tick");
    const itimerspec next{interval, {static_cast<time_t>(first), 0}};
    must(timerfd_settime(timers[i], 0, &next, nullptr), "timerfd_settime");
  }
  const double began = Workload::now();

  w.ready();
  w.wait_for_verify();

  for (std::size_t i = 0; i < std::size(clocks); ++i) {
    const int timer = timers[i];
    const std::string clock = fdinfo(timer, {"clockid:"});
    w.check(clock == "clockid: " + std::to_string(clocks[i]) + " \n", "timer %zu: %s", i, clock.c_str());
    w.check(fcntl(timer, F_GETFL) == (O_RDWR | O_NONBLOCK), "%s: flags are %#o", clock.c_str(), fcntl(timer, F_GETFL));
    w.check(fcntl(timer, F_GETFD) == FD_CLOEXEC, "%s: FD_CLOEXEC changed", clock.c_str());
    itimerspec left{};
    timerfd_gettime(timer, &left);
    w.check(left.it_interval.tv_sec == interval.tv_sec && left.it_interval.tv_nsec == interval.tv_nsec,
            "%s: the interval is %.9f s", clock.c_str(), seconds(left.it_interval));
    const double due = first - (Workload::now() - began);
    const double now = seconds(left.it_value);
    w.check(now > due - late && now < due + w.lost() + late, "%s: %.3f s left, %.3f s expected", clock.c_str(), now,
            due);
    std::uint64_t ticks = 0;
    w.check(read(timer, &ticks, 8) == -1 && errno == EAGAIN, "%s: has ticked", clock.c_str());
    w.check(w.wait_until([&] { return left_of(timer) < now - 0.02; }), "%s: stands still", clock.c_str());
  }
  return w.finish();
}
