#include "coordinator/fleet/forecast.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::coordinator {
namespace {

using testing::HasSubstr;

MigrationSpec spec(const std::string& workload, const std::string& from = "a", const std::string& to = "b") {
  MigrationSpec s;
  s.workload = workload;
  s.source = from;
  s.destination = to;
  return s;
}

// Sends 100 MB and then `again` MB more, at 200 MB/s.
Migration past(const MigrationSpec& of, std::int64_t downtime_ms, double again = 0) {
  Migration m{.id = "m", .spec = of};
  m.outcome = Outcome::done;
  m.downtime_ns = downtime_ms * 1'000'000;
  m.rounds = {{.number = 0, .bytes = 100'000'000, .seconds = 0.5},
              {.number = 1, .bytes = static_cast<std::uint64_t>(again * 1e6), .seconds = again / 200, .final = true}};
  m.total_s = 0.5 + again / 200 + 0.25;
  return m;
}

TEST(Forecast, assumes_a_link_when_nothing_was_measured_and_says_so) {
  const Forecast f = forecast(spec("redis"), 1'100'000'000, {});
  EXPECT_EQ(f.bytes, 1'100'000'000u);
  EXPECT_NEAR(f.total_s, 10.5, 0.01);
  EXPECT_GT(f.downtime_ns, 0);
  EXPECT_THAT(f.basis, HasSubstr("nothing was measured"));
}

TEST(Forecast, takes_bytes_and_downtime_from_the_workloads_own_past) {
  const Forecast f = forecast(spec("redis"), 200'000'000, {past(spec("redis"), 30, 50), past(spec("other"), 900, 900)});
  EXPECT_EQ(f.bytes, 300'000'000u) << "it sent one and a half times its size";
  EXPECT_EQ(f.downtime_ns, 30'000'000);
  EXPECT_THAT(f.basis, HasSubstr("the last 1 of this workload"));
}

TEST(Forecast, takes_the_rate_from_the_same_path) {
  Migration slow = past(spec("other"), 90);
  for (RoundRecord& r : slow.rounds) r.seconds *= 10;
  slow.total_s = 5.0 + 0.25;
  const Forecast f = forecast(spec("redis"), 100'000'000, {past(spec("redis", "c", "d"), 30), slow});
  EXPECT_NEAR(f.total_s, 5.25, 0.01);
  EXPECT_EQ(f.downtime_ns, 30'000'000);
}

TEST(Forecast, is_not_led_astray_by_one_hiccup_nor_by_what_failed) {
  Migration failed = past(spec("redis"), 5000);
  failed.outcome = Outcome::rolled_back;
  std::vector<Migration> history{failed, past(spec("redis"), 20), past(spec("redis"), 4000), past(spec("redis"), 25)};
  EXPECT_EQ(forecast(spec("redis"), 1, history).downtime_ns, 25'000'000);
}

TEST(Forecast, of_a_stop_and_copy_has_all_of_it_in_the_pause) {
  MigrationSpec all_at_once = spec("redis");
  all_at_once.policy.max_rounds = 0;
  Migration before = past(all_at_once, 2000);
  EXPECT_EQ(forecast(all_at_once, 400'000'000, {before, past(spec("redis"), 30, 50)}).downtime_ns, 2'030'000'000);
  EXPECT_EQ(forecast(spec("redis"), 400'000'000, {before, past(spec("redis"), 30, 50)}).downtime_ns, 30'000'000)
      << "what it took is nothing to foretell a live move by";
}

TEST(Forecast, keeps_to_a_rate_limit) {
  MigrationSpec limited = spec("redis");
  limited.rate_limit = 10'000'000;
  EXPECT_NEAR(forecast(limited, 100'000'000, {past(spec("redis"), 20)}).total_s, 10.25, 0.01);
}

}  // namespace
}  // namespace godwit::coordinator
