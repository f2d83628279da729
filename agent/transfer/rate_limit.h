// A token bucket: how long to wait before the next piece may be sent. Pure; the caller has the clock.
#pragma once

#include "common/base/units.h"

#include <cstdint>

namespace godwit::transfer {

class RateLimit {
 public:
  explicit RateLimit(std::uint64_t bytes_per_second, Clock::time_point now) : rate_(bytes_per_second), at_(now) {}

  // Takes effect at once: returns when the next piece may go, what has been spent being paid for at the new rate.
  // 0: no limit.
  Clock::time_point set(std::uint64_t bytes_per_second, Clock::time_point now);

  // Spends `bytes` and returns when the next piece may go: never in the past by more than the burst.
  Clock::time_point spend(std::uint64_t bytes, Clock::time_point now);

 private:
  std::uint64_t rate_;
  Clock::time_point at_;  // everything spent so far has been paid for at this time
};

}  // namespace godwit::transfer
