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
  constexpr std::int64_t ms = 1'000'000;
  const PauseTimes times{
      .downtime_ns = 50 * ms,
      .freeze = {.asked_ns = 100 * ms, .answered_ns = 112 * ms, .steps = {{"freeze", 2 * ms}, {"pages", 8 * ms}}},
      .finish = {.asked_ns = 113 * ms, .answered_ns = 126 * ms, .steps = {{"apply", 10 * ms}, {"freeze", 1 * ms}}},
      .arm = {.asked_ns = 128 * ms, .answered_ns = 132 * ms, .steps = {{"record", 1 * ms}}},
      .commit = {.asked_ns = 133 * ms, .answered_ns = 138 * ms, .steps = {{"thaw", 3 * ms}}},
      .kill = {.asked_ns = 139 * ms, .answered_ns = 147 * ms, .took_ns = 5 * ms}};
  const std::vector<StepRecord> steps = split_pause(times);
  std::int64_t sum = 0;
  std::map<std::string, std::int64_t> by_name;
  for (const StepRecord& s : steps) {
    sum += s.nanoseconds;
    by_name[s.name] = s.nanoseconds;
  }
  EXPECT_EQ(sum, times.downtime_ns);
  EXPECT_EQ(by_name["transit"], (2 + 3 + 2 + (2 + 3)) * ms);  // of finish, arm, commit; what freeze and kill allow
  EXPECT_EQ(by_name["coordinator"], (1 + 2 + 1 + 1) * ms);
  EXPECT_EQ(by_name["destination_freeze"], 1 * ms);
  EXPECT_EQ(by_name["unexplained"], 8 * ms);
}

TEST(Report, gives_the_messages_at_the_ends_no_more_than_is_left) {
  constexpr std::int64_t ms = 1'000'000;
  const PauseTimes times{.downtime_ns = 12 * ms,
                         .freeze = {.asked_ns = 100 * ms, .answered_ns = 112 * ms, .steps = {{"freeze", 2 * ms}}},
                         .arm = {.asked_ns = 112 * ms, .answered_ns = 118 * ms, .steps = {{"record", 1 * ms}}},
                         .kill = {.asked_ns = 119 * ms, .answered_ns = 125 * ms, .took_ns = 1 * ms}};
  std::map<std::string, std::int64_t> by_name;
  for (const StepRecord& s : split_pause(times)) by_name[s.name] = s.nanoseconds;
  EXPECT_EQ(by_name["transit"], (5 + 4) * ms);
  EXPECT_EQ(by_name["unexplained"], 0);
}

// Not under the name of somebody else.
TEST(Report, leaves_unexplained_what_an_agent_does_not_account_for) {
  constexpr std::int64_t ms = 1'000'000;
  PauseTimes times{.downtime_ns = 40 * ms,
                   .finish = {.asked_ns = 100 * ms, .answered_ns = 130 * ms, .steps = {{"apply", 10 * ms}}},
                   .kill = {.asked_ns = 139 * ms}};
  const auto of = [&times](const std::string& name) {
    for (const StepRecord& s : split_pause(times))
      if (s.name == name) return s.nanoseconds;
    return std::int64_t{-1};
  };
  EXPECT_EQ(of("transit"), 20 * ms) << "nobody knows better";
  times.finish.took_ns = 27 * ms;
  EXPECT_EQ(of("transit"), 3 * ms);
  EXPECT_EQ(of("unexplained"), 27 * ms);
  times.finish.took_ns = 99 * ms;  // a clock that is wrong
  EXPECT_EQ(of("transit"), 0);
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
