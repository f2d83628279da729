#include "coordinator/migration/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

namespace godwit::coordinator {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string refusal(const char* text) {
  try {
    spec_from_json(json::parse(text));
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::invalid_argument);
    return e.message();
  }
  return "accepted";
}

TEST(SpecJson, round_trips) {
  MigrationSpec spec;
  spec.workload = "redis";
  spec.source = "a";
  spec.destination = "b";
  spec.tcp_close = true;
  spec.assume_shared = {"/data"};
  spec.policy.downtime = std::chrono::milliseconds(80);
  spec.policy.on_no_progress = OnNoProgress::force;
  EXPECT_EQ(to_json(spec_from_json(to_json(spec))), to_json(spec));
}

TEST(SpecJson, names_what_is_wrong) {
  EXPECT_THAT(refusal(R"([])"), HasSubstr("must be a JSON object"));
  EXPECT_THAT(refusal(R"({"to": "b"})"), HasSubstr("either 'workload' or 'pid'"));
  EXPECT_THAT(refusal(R"({"workload": "w", "pid": 4, "to": "b"})"), HasSubstr("either 'workload' or 'pid'"));
  EXPECT_THAT(refusal(R"({"pid": 4, "to": "b"})"), HasSubstr("needs 'from'"));
  EXPECT_THAT(refusal(R"({"workload": "w"})"), HasSubstr("node ''"));
  EXPECT_THAT(refusal(R"({"workload": "../w", "to": "b"})"), HasSubstr("workload '../w' is no name"));
  EXPECT_THAT(refusal(R"({"workload": "w", "to": "b", "too": 1})"), HasSubstr("unknown member 'too'"));
  EXPECT_THAT(refusal(R"({"workload": "w", "to": "b", "streams": 0})"),
              HasSubstr("'streams' must be a whole number from 1 to 16"));
  EXPECT_THAT(refusal(R"({"workload": "w", "to": "b", "streams": -1})"), HasSubstr("'streams'"));
  EXPECT_THAT(refusal(R"({"workload": "w", "to": "b", "tcp_close": "yes"})"), HasSubstr("true or false"));
  EXPECT_THAT(refusal(R"({"workload": "w", "to": "b", "downtime_ms": 0})"), HasSubstr("'downtime_ms'"));
  EXPECT_THAT(refusal(R"({"workload": "w", "to": "b", "on_no_progress": "pray"})"), HasSubstr("'force' or 'abort'"));
}

TEST(Report, steps_add_up_to_the_downtime) {
  const PauseTimes times{.downtime_ns = 50'000'000,
                         .frozen = {{"freeze", 2'000'000}, {"pages", 8'000'000}},
                         .finished = {{"apply", 10'000'000}, {"freeze", 1'000'000}},
                         .resumed = {{"thaw", 3'000'000}},
                         .finish_ns = 13'000'000,
                         .arm_ns = 4'000'000,
                         .commit_ns = 5'000'000};
  const std::vector<StepRecord> steps = split_pause(times);
  std::int64_t sum = 0;
  std::map<std::string, std::int64_t> by_name;
  for (const StepRecord& s : steps) {
    sum += s.nanoseconds;
    by_name[s.name] = s.nanoseconds;
  }
  EXPECT_EQ(sum, times.downtime_ns);
  EXPECT_EQ(by_name["transit"], 4'000'000);
  EXPECT_EQ(by_name["destination_freeze"], 1'000'000);
  EXPECT_EQ(by_name["unexplained"], 18'000'000);
}

TEST(Report, says_nothing_where_nothing_was_measured) {
  Migration m{.id = "m1"};
  const json report = to_json(m);
  EXPECT_TRUE(report["downtime_ms"].is_null());
  EXPECT_TRUE(report["outcome"].is_null());
  EXPECT_EQ(report["gb_per_s"], 0.0);
  EXPECT_EQ(report["rounds"].size(), 0u);
}

}  // namespace
}  // namespace godwit::coordinator
