#include "coordinator/simulation/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

namespace godwit::coordinator {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;

constexpr double mib = 1 << 20;

Trace one_load(double memory_bytes, DirtyCurve curve) {
  return {.about = "",
          .memory_bytes = static_cast<std::uint64_t>(memory_bytes),
          .loads = {{.from_s = 0, .dirty = std::move(curve)}}};
}

std::string refusal(const char* text) {
  try {
    trace_from_json(json::parse(text), "t.json");
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::invalid_argument);
    return e.message();
  }
  return "accepted";
}

TEST(DirtyCurve, is_straight_between_its_points_and_goes_on_as_it_came) {
  const DirtyCurve curve({{.seconds = 1, .bytes = 100}, {.seconds = 3, .bytes = 200}});
  EXPECT_DOUBLE_EQ(curve.after(0), 0);
  EXPECT_DOUBLE_EQ(curve.after(0.5), 50);
  EXPECT_DOUBLE_EQ(curve.after(2), 150);
  EXPECT_DOUBLE_EQ(curve.after(5), 300);
  for (const double seconds : {0.25, 1.0, 2.5, 9.0})
    EXPECT_DOUBLE_EQ(curve.seconds_until(curve.after(seconds)), seconds);
}

TEST(DirtyCurve, never_reaches_more_than_a_set_that_is_written_again_and_again) {
  const DirtyCurve curve = sweep(10, 100);
  EXPECT_DOUBLE_EQ(curve.after(5), 50);
  EXPECT_DOUBLE_EQ(curve.after(1e6), 100);
  EXPECT_FALSE(std::isfinite(curve.seconds_until(101)));
  EXPECT_DOUBLE_EQ(sweep(0, 100).after(10), 0);
}

TEST(Trace, goes_on_with_the_curve_of_the_next_load) {
  Trace trace = one_load(1000, sweep(10, 100));
  trace.loads.push_back({.from_s = 20, .dirty = sweep(50, 400)});
  trace.loads.push_back({.from_s = 30, .dirty = sweep(1, 1)});
  EXPECT_DOUBLE_EQ(trace.dirty_after(0, 15), 100);
  EXPECT_DOUBLE_EQ(trace.dirty_after(15, 7), 50 + 2 * 50);
  EXPECT_DOUBLE_EQ(trace.dirty_after(20, 30), 400) << "what is dirty stays so when less is written";
  EXPECT_DOUBLE_EQ(trace.dirty_after(100, 30), 1);
}

TEST(Trace, never_has_more_dirty_than_there_is_memory) {
  EXPECT_DOUBLE_EQ(one_load(64, sweep(10, 1000)).dirty_after(0, 90), 64);
}

TEST(Trace, is_read_from_json) {
  const Trace trace = trace_from_json(json::parse(R"({"about": "x", "memory_bytes": 1000, "loads": [
      {"from_s": 0, "dirty": [{"seconds": 1, "bytes": 10}, {"seconds": 2, "bytes": 15}]},
      {"from_s": 60, "dirty": [{"seconds": 1, "bytes": 1000}]}]})"),
                                      "t.json");
  EXPECT_EQ(trace.about, "x");
  EXPECT_EQ(trace.memory_bytes, 1000u);
  ASSERT_EQ(trace.loads.size(), 2u);
  EXPECT_DOUBLE_EQ(trace.dirty_after(0, 2), 15);
  EXPECT_DOUBLE_EQ(trace.dirty_after(60, 0.5), 500);
}

TEST(Trace, is_refused_with_its_file_and_place) {
  EXPECT_THAT(refusal("[]"), HasSubstr("t.json must be a JSON object"));
  EXPECT_THAT(refusal("{}"), HasSubstr("t.json: 'memory_bytes' is missing"));
  EXPECT_THAT(refusal(R"({"memory_bytes": 9})"), HasSubstr("'loads' must be an array"));
  EXPECT_THAT(refusal(R"({"memory_bytes": 9, "loads": [], "size": 1})"), HasSubstr("unknown member 'size'"));
  EXPECT_THAT(refusal(R"({"memory_bytes": 9, "loads": [{"from_s": 1, "dirty": [{"seconds": 1, "bytes": 1}]}]})"),
              HasSubstr("load 0: 'from_s' must be 0"));
  EXPECT_THAT(refusal(R"({"memory_bytes": 9, "loads": [{"dirty": [{"seconds": 1, "bytes": 10}]}]})"),
              HasSubstr("load 0, point 0: 'bytes' must be a whole number from 0 to 9"));
  EXPECT_THAT(refusal(R"({"memory_bytes": 9, "loads": [{"dirty": [{"seconds": 1, "bytes": 5},
                                                                  {"seconds": 1, "bytes": 6}]}]})"),
              HasSubstr("load 0: the seconds of points must grow"));
  EXPECT_THAT(refusal(R"({"memory_bytes": 9, "loads": [{"dirty": [{"seconds": 1, "bytes": 5},
                                                                  {"seconds": 2, "bytes": 4}]}]})"),
              HasSubstr("must not shrink"));
  EXPECT_THAT(refusal(R"({"rounds": []})"), HasSubstr("'rounds' must be an array"));
  EXPECT_THAT(refusal(R"({"rounds": [{"seconds": "x"}]})"), HasSubstr("round 0: 'seconds'"));
  EXPECT_THAT(refusal(R"({"rounds": [{"seconds": 1, "bytes": 0}]})"), HasSubstr("sent nothing"));
}

TEST(Trace, is_made_of_the_rounds_of_a_report) {
  const Trace trace = trace_from_json(json::parse(R"({"migration": "m1", "workload": "redis", "rounds": [
      {"bytes": 1000, "seconds": 10, "dirty_bytes_after": 400}, {"bytes": 400, "seconds": 4, "dirty_bytes_after": 100},
      {"bytes": 100, "seconds": 1, "dirty_bytes_after": 150}, {"bytes": 150, "seconds": 0.5, "dirty_bytes_after": 0},
      {"bytes": 70, "seconds": 0.1, "dirty_bytes_after": 0, "final": true}]})"),
                                      "r.json");
  EXPECT_THAT(trace.about, HasSubstr("m1"));
  EXPECT_EQ(trace.memory_bytes, 1000u);
  EXPECT_DOUBLE_EQ(trace.dirty_after(0, 10), 400);
  EXPECT_DOUBLE_EQ(trace.dirty_after(0, 4), 150) << "a longer interval dirties no less";
  EXPECT_DOUBLE_EQ(trace.dirty_after(0, 0.5), 75);
}

TEST(Simulation, sends_in_each_round_what_the_one_before_left) {
  const Trace trace = one_load(1000 * mib, sweep(20 * mib, 1000 * mib));
  const Simulation s = simulate(trace, {.bytes_per_s = 100 * mib}, {});
  ASSERT_GT(s.rounds.size(), 1u);
  for (std::size_t i = 1; i < s.rounds.size(); i++) {
    EXPECT_EQ(s.rounds[i].round.bytes, s.rounds[i - 1].round.dirty_bytes_after);
    EXPECT_EQ(s.rounds[i - 1].decision.action, Action::another_round);
  }
  EXPECT_EQ(s.decision.action, Action::freeze);
  EXPECT_EQ(s.rounds.back().decision.action, Action::freeze);
  ASSERT_EQ(s.ending.size(), 2u);
  EXPECT_EQ(s.ending[0].bytes, s.rounds.back().round.dirty_bytes_after);
  EXPECT_TRUE(s.ending[1].final);
  std::uint64_t bytes = 0;
  for (const auto& r : s.rounds) bytes += r.round.bytes;
  for (const auto& r : s.ending) bytes += r.bytes;
  EXPECT_EQ(s.bytes, bytes);
  EXPECT_NEAR(s.total_s, static_cast<double>(bytes) / (100 * mib), 0.2);
  EXPECT_GE(s.downtime_s, 0.03);
}

TEST(Simulation, stops_and_copies_all_of_the_memory) {
  const Simulation s =
      simulate(one_load(100 * mib, sweep(mib, mib)), {.bytes_per_s = 100 * mib, .overhead = 50ms}, {.max_rounds = 0});
  EXPECT_TRUE(s.rounds.empty());
  ASSERT_EQ(s.ending.size(), 1u);
  EXPECT_NEAR(s.downtime_s, 1.05, 1e-3);
}

TEST(Simulation, ends_over_the_slowest_path) {
  const Trace huge = one_load(1e15, sweep(1e12, 1e15));
  EXPECT_EQ(simulate(huge, {.bytes_per_s = 1}, {.max_rounds = 1000}).decision.action, Action::give_up);
  EXPECT_GT(simulate(huge, {.bytes_per_s = 1}, {.max_rounds = 0}).downtime_s, 1e14);
}

TEST(Simulation, does_not_freeze_what_never_converges) {
  const Simulation s = simulate(one_load(1000 * mib, sweep(500 * mib, 1000 * mib)), {.bytes_per_s = 100 * mib}, {});
  EXPECT_EQ(s.decision.action, Action::give_up);
  EXPECT_TRUE(s.ending.empty());
  EXPECT_EQ(s.downtime_s, 0);
}

// What the documentation says of the traces that come with the source.
TEST(Simulation, knows_how_the_shipped_traces_end) {
  const std::string traces = GODWIT_SOURCE_DIR "/deploy/traces/";
  for (const auto& entry : std::filesystem::directory_iterator(traces))
    if (entry.path().extension() == ".json") EXPECT_FALSE(read_trace(entry.path()).about.empty()) << entry.path();
  const Trace redis = read_trace(traces + "redis-5000.json");
  for (const double mbit : {1000.0, 10'000.0}) {
    const Simulation s = simulate(redis, {.bytes_per_s = mbit * 1e6 / 8}, {});
    EXPECT_EQ(s.decision.action, Action::freeze) << mbit << ": " << s.decision.reason;
    EXPECT_LT(s.downtime_s, 0.3) << mbit;
  }
  const Trace never = read_trace(traces + "never-converges.json");
  for (const double mbit : {1000.0, 10'000.0})
    EXPECT_EQ(simulate(never, {.bytes_per_s = mbit * 1e6 / 8}, {}).decision.action, Action::give_up) << mbit;
}

}  // namespace
}  // namespace godwit::coordinator
