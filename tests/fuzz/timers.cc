#include "common/proc/timers.h"

#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) {
  for (const proc::PosixTimer& timer : proc::parse_timers(input)) require(timer.sigev_notify() >= 0);
}

}  // namespace godwit
