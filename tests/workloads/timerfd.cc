// Checks: timerfds on every clock: that clock, flags, interval, remaining time, ticks that nobody has read, and that
// they tick on.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <ctime>
#include <fcntl.h>
#include <sys/timerfd.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

struct Clock {
  clockid_t id;
  clockid_t base;  // an alarm clock itself cannot be read where there is no RTC
  const char* name;
};

// The two alarm clocks need CAP_WAKE_ALARM, and are unknown to CRIU; they are left out where that is so.
constexpr Clock clocks[] = {{CLOCK_REALTIME, CLOCK_REALTIME, "CLOCK_REALTIME"},
                            {CLOCK_MONOTONIC, CLOCK_MONOTONIC, "CLOCK_MONOTONIC"},
                            {CLOCK_BOOTTIME, CLOCK_BOOTTIME, "CLOCK_BOOTTIME"},
                            {CLOCK_REALTIME_ALARM, CLOCK_REALTIME, "CLOCK_REALTIME_ALARM"},
                            {CLOCK_BOOTTIME_ALARM, CLOCK_BOOTTIME, "CLOCK_BOOTTIME_ALARM"}};
constexpr double interval = 0.05;
constexpr timespec interval_spec{0, 50'000'000};

double seconds(const timespec& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9; }

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr int kinds = std::size(clocks);
  int ticking[kinds], distant[kinds];
  const double began = Workload::now();
  for (int i = 0; i < kinds; ++i) {
    ticking[i] = w.beside_criu() && clocks[i].id != clocks[i].base
                     ? -1
                     : timerfd_create(clocks[i].id, TFD_CLOEXEC | TFD_NONBLOCK);
    if (ticking[i] < 0) continue;
    distant[i] = timerfd_create(clocks[i].id, 0);
    const itimerspec often{interval_spec, interval_spec};
    must(timerfd_settime(ticking[i], 0, &often, nullptr), "timerfd_settime");
    itimerspec late_one{{9, 0}, {4000, 0}};
    timespec now;
    clock_gettime(clocks[i].base, &now);
    late_one.it_value.tv_sec += now.tv_sec;
    late_one.it_value.tv_nsec = now.tv_nsec;
    must(timerfd_settime(distant[i], TFD_TIMER_ABSTIME, &late_one, nullptr), "timerfd_settime");
  }
  const int fired = must(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), "timerfd_create");
  const itimerspec soon{{}, {0, 1'000'000}};
  must(timerfd_settime(fired, 0, &soon, nullptr), "timerfd_settime");
  const int idle = must(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), "timerfd_create");
  pause_for(0.4);

  w.ready();
  w.wait_for_verify();

  for (int i = 0; i < kinds; ++i) {
    if (ticking[i] < 0) continue;
    const char* const name = clocks[i].name;
    w.check(fcntl(ticking[i], F_GETFL) == (O_RDWR | O_NONBLOCK), "%s: flags are %#o", name, fcntl(ticking[i], F_GETFL));
    w.check(fcntl(ticking[i], F_GETFD) == FD_CLOEXEC && fcntl(distant[i], F_GETFD) == 0, "%s: FD_CLOEXEC changed",
            name);
    for (const int fd : {ticking[i], distant[i]}) {
      const std::string clock = fdinfo(fd, {"clockid:"});
      w.check(clock == "clockid: " + std::to_string(clocks[i].id) + " \n", "%s: %s", name, clock.c_str());
    }
    std::uint64_t ticks = 0;
    const double elapsed = Workload::now() - began;
    w.check(read(ticking[i], &ticks, 8) == 8, "%s: read: %m", name);
    const auto counted = static_cast<double>(ticks);
    // The kernel counts whether or not this process gets to run; only what the freeze took may be missing.
    w.check(counted <= elapsed / interval + 2 && counted >= (elapsed - w.lost()) / interval - 3,
            "%s: %llu ticks in %.3f s", name, static_cast<unsigned long long>(ticks), elapsed);
    w.check(readable(ticking[i]), "%s does not tick any more", name);
    itimerspec left{};
    timerfd_gettime(ticking[i], &left);
    w.check(seconds(left.it_interval) == interval && seconds(left.it_value) <= interval, "%s: %.6f s of %.6f s left",
            name, seconds(left.it_value), seconds(left.it_interval));
    timerfd_gettime(distant[i], &left);
    const double due = 4000 - (Workload::now() - began);
    const double early = late + (w.beside_criu() ? 1 : 0);  // CRIU drops the fraction of a second of an absolute time
    w.check(seconds(left.it_interval) == 9 && seconds(left.it_value) > due - early &&
                seconds(left.it_value) < due + w.lost() + late,
            "%s: the distant timer has %.3f s left, %.3f s expected", name, seconds(left.it_value), due);
  }
  std::uint64_t once = 0;
  w.check(readable(fired) && read(fired, &once, 8) == 8 && once == 1, "the unread one-shot tick is lost");
  w.check(read(idle, &once, 8) == -1 && errno == EAGAIN, "the idle timerfd has ticked");
  return w.finish();
}
