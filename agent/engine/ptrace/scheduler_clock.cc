#include "agent/engine/ptrace/scheduler_clock.h"

#include "common/base/fd.h"
#include "common/base/units.h"
#include "common/proc/values.h"

#include <algorithm>
#include <map>

#include <sched.h>

namespace godwit::engine {
namespace {

// The two drift apart, by thousandths while a clock is being set right.
constexpr std::uint64_t remembered_for_ns = 1'000'000'000;

// Our own exec_start, just after a yield: the largest of a few tries is the least disturbed.
double measure(unsigned cpu) {
  cpu_set_t old, one;
  ::sched_getaffinity(0, sizeof old, &old);
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  ::sched_setaffinity(0, sizeof one, &one);
  double best = -1e18;
  for (int i = 0; i < 3; i++) {
    ::sched_yield();
    const double now = static_cast<double>(monotonic_ns()) / 1e6;
    try {
      const proc::Sched own = proc::parse_sched(read_file("/proc/self/sched"));
      best = std::max(best, static_cast<double>(own.exec_start_ns) / 1e6 - now);
    } catch (const Error&) {  // a kernel without scheduler statistics: then nobody has any
    }
  }
  ::sched_setaffinity(0, sizeof old, &old);
  return best;
}

struct Measured {
  double ahead_ms = 0;
  std::uint64_t at_ns = 0;
};

}  // namespace

double scheduler_clock_ahead_ms(unsigned cpu) {
  static std::map<unsigned, Measured> measured;
  Measured& m = measured[cpu];
  if (m.at_ns == 0 || monotonic_ns() - m.at_ns > remembered_for_ns) {
    m.ahead_ms = measure(cpu);
    m.at_ns = monotonic_ns();
  }
  return m.ahead_ms;
}

}  // namespace godwit::engine
