// Checks: on one host, no clock goes backwards or away from the others.

#include "tests/workloads/workload.h"

#include <cmath>
#include <ctime>

using namespace godwit::workloads;

namespace {

double read_clock(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

constexpr clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW};

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  double first[std::size(clocks)], last[std::size(clocks)];
  for (std::size_t i = 0; i < std::size(clocks); ++i) first[i] = last[i] = read_clock(clocks[i]);
  w.ready();
  w.wait_for_verify([&] {
    for (std::size_t i = 0; i < std::size(clocks); ++i) {
      const double now = read_clock(clocks[i]);
      w.check(now >= last[i], "clock %d went from %.6f to %.6f", clocks[i], last[i], now);
      last[i] = now;
    }
  });
  const double passed = read_clock(CLOCK_REALTIME) - first[0];
  for (std::size_t i = 1; i < std::size(clocks); ++i) {
    const double own = read_clock(clocks[i]) - first[i];
    w.check(std::fabs(own - passed) < 0.2, "clock %d advanced by %.3f s, the real time by %.3f s", clocks[i], own,
            passed);
  }
  return w.finish();
}
