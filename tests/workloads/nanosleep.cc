// Checks: long sleeps, relative on each clock and until a real time, end with 0 and at the right time.

#include "tests/workloads/blocked_call.h"

#include <ctime>
#include <list>

using namespace godwit::workloads;

namespace {

constexpr int seconds = 3;
constexpr double before_ready = 1.2;  // a sleep that starts anew would be caught by its length

long sleep_on(clockid_t clock, bool absolute) {
  timespec time{};
  if (absolute) clock_gettime(clock, &time);
  time.tv_sec += seconds;
  return -clock_nanosleep(clock, absolute ? TIMER_ABSTIME : 0, &time, nullptr);
}

long plain_sleep() {
  const timespec time{seconds, 0};
  timespec left;
  return nanosleep(&time, &left);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::list<BlockedCall> sleeps;
  sleeps.emplace_back("nanosleep", [] { return plain_sleep(); });
  sleeps.emplace_back("clock_nanosleep(CLOCK_MONOTONIC)", [] { return sleep_on(CLOCK_MONOTONIC, false); });
  sleeps.emplace_back("clock_nanosleep(CLOCK_REALTIME)", [] { return sleep_on(CLOCK_REALTIME, false); });
  sleeps.emplace_back("clock_nanosleep(CLOCK_BOOTTIME)", [] { return sleep_on(CLOCK_BOOTTIME, false); });
  sleeps.emplace_back("clock_nanosleep until a real time", [] { return sleep_on(CLOCK_REALTIME, true); });
  for (const BlockedCall& sleep : sleeps) sleep.settle();
  pause_for(before_ready);

  w.ready();
  w.wait_for_verify();
  for (const BlockedCall& sleep : sleeps) {
    if (sleep.comes_back(w, 0, seconds + 5)) sleep.took(w, seconds);
  }
  return w.finish();
}
