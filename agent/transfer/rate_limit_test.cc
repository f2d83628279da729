#include "agent/transfer/rate_limit.h"

#include <gtest/gtest.h>

namespace godwit::transfer {
namespace {

using namespace std::chrono_literals;

// Seconds that sending `pieces` of a mebibyte takes from `now` on.
double duration(RateLimit& limit, int pieces, Clock::time_point& now) {
  const auto start = now;
  for (int i = 0; i < pieces; ++i) now = std::max(now, limit.spend(1 << 20, now));
  return std::chrono::duration<double>(now - start).count();
}

TEST(RateLimit, keeps_the_rate_but_for_a_small_burst) {
  Clock::time_point now{};
  RateLimit limit(10 << 20, now);
  EXPECT_NEAR(duration(limit, 20, now), 2.0, 0.05);
  now += 10s;  // idle time is not saved up
  EXPECT_NEAR(duration(limit, 20, now), 2.0, 0.05);
}

TEST(RateLimit, can_be_changed_on_the_way) {
  Clock::time_point now{};
  RateLimit limit(1 << 20, now);
  limit.spend(100 << 20, now);  // a debt of 100 s
  limit.set(100 << 20, now);
  EXPECT_NEAR(std::chrono::duration<double>(limit.spend(0, now) - now).count(), 1.0, 0.05);
  limit.set(0, now);
  EXPECT_EQ(limit.spend(1 << 30, now), now);
}

}  // namespace
}  // namespace godwit::transfer
