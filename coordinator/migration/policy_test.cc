// The policy on rounds of simulated workloads, and on single ones that are written down here.
#include "coordinator/migration/policy.h"

#include "coordinator/migration/sample_rounds.h"
#include "coordinator/simulation/simulate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::coordinator {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

struct Model {
  double memory_bytes = 1024 * mib;
  double path_bytes_per_s = 900 * mib;
  double writes_bytes_per_s = 20 * mib;  // 5,000 SET/s of one page each
  double writable_bytes = 1024 * mib;    // the working set: more than this is never dirty
};

struct Ending {
  Decision decision;
  std::vector<RoundRecord> rounds;
};

Ending run(const Model& model, const PolicyOptions& options, std::chrono::nanoseconds overhead = 30ms) {
  const Trace trace{.about = "a sweep",
                    .memory_bytes = static_cast<std::uint64_t>(model.memory_bytes),
                    .loads = {{.from_s = 0, .dirty = sweep(model.writes_bytes_per_s, model.writable_bytes)}}};
  const Simulation done = simulate(trace, {.bytes_per_s = model.path_bytes_per_s, .overhead = overhead}, options);
  Ending ending{.decision = done.decision, .rounds = {}};
  for (const SimulatedRound& r : done.rounds) ending.rounds.push_back(r.round);
  return ending;
}

Measurements measured_of(const Ending& end) { return {.rounds = end.rounds, .overhead = 30ms}; }

TEST(Policy, begins_with_a_round) { EXPECT_EQ(decide({}, {}).action, Action::another_round); }

TEST(Policy, freezes_a_loaded_redis_after_a_few_rounds_with_almost_nothing_left) {
  const Ending end = run({}, {});
  EXPECT_EQ(end.decision.action, Action::freeze) << end.decision.reason;
  EXPECT_LE(end.rounds.size(), 4u);
  EXPECT_LT(end.decision.predicted_downtime, 35ms);
  EXPECT_LT(end.rounds.back().dirty_bytes_after, 2 * mib);
}

TEST(Policy, freezes_an_idle_workload_after_one_round) {
  const Ending end = run({.writes_bytes_per_s = 0}, {});
  EXPECT_EQ(end.decision.action, Action::freeze);
  EXPECT_EQ(end.rounds.size(), 1u);
}

TEST(Policy, keeps_going_within_the_budget_while_the_difference_shrinks) {
  // 20 MiB would fit into 300 ms at once, but another round makes it ten times smaller.
  const Ending end =
      run({.memory_bytes = 200 * mib, .path_bytes_per_s = 100 * mib, .writes_bytes_per_s = 10 * mib}, {});
  EXPECT_EQ(end.decision.action, Action::freeze);
  EXPECT_GT(end.rounds.size(), 1u);
  EXPECT_LT(end.decision.predicted_downtime, 50ms);
}

TEST(Policy, settles_for_a_difference_that_stays_the_same_when_it_fits) {
  const Ending end = run({.writes_bytes_per_s = 2000 * mib, .writable_bytes = 40 * mib}, {});
  EXPECT_EQ(end.decision.action, Action::freeze);
  EXPECT_LE(end.rounds.size(), 3u);
  EXPECT_GT(end.decision.predicted_downtime, 50ms);
}

TEST(Policy, does_not_freeze_after_a_round_that_was_held_up) {
  Measurements measured{.rounds = {left(100), left(10), left(4)}, .overhead = 30ms};
  EXPECT_EQ(decide(measured, {}).action, Action::another_round);
  measured.rounds.push_back(left(12));
  EXPECT_EQ(decide(measured, {}).action, Action::another_round);
  measured.rounds.push_back(left(4.2));
  EXPECT_EQ(decide(measured, {}).action, Action::freeze);
}

TEST(Policy, does_not_wait_for_ever_for_as_little_as_there_once_was) {
  Measurements measured{.rounds = {left(100), left(4), left(12), left(15)}, .overhead = 30ms};
  EXPECT_EQ(decide(measured, {}).action, Action::another_round);
  measured.rounds.push_back(left(13));
  EXPECT_EQ(decide(measured, {}).action, Action::freeze);
}

TEST(Policy, gives_up_with_the_numbers_when_a_writer_is_faster_than_the_path) {
  const Ending end = run({.path_bytes_per_s = 100 * mib, .writes_bytes_per_s = 400 * mib}, {});
  EXPECT_EQ(end.decision.action, Action::give_up);
  EXPECT_LE(end.rounds.size(), 5u);
  EXPECT_THAT(end.decision.reason, HasSubstr("predicted downtime"));
  EXPECT_THAT(end.decision.reason, HasSubstr("1.0 GiB"));
  EXPECT_THAT(end.decision.reason, HasSubstr("budget 300 ms"));
}

TEST(Policy, freezes_the_same_writer_by_force) {
  const Ending end =
      run({.path_bytes_per_s = 100 * mib, .writes_bytes_per_s = 400 * mib}, {.on_no_progress = OnNoProgress::force});
  EXPECT_EQ(end.decision.action, Action::freeze);
  EXPECT_GT(end.decision.predicted_downtime, 5s);
}

TEST(Policy, does_not_promise_a_budget_below_its_own_overhead) {
  const Ending end = run({.writes_bytes_per_s = 0}, {.downtime = 10ms});
  EXPECT_EQ(end.decision.action, Action::give_up);
}

TEST(Policy, a_freeze_says_how_much_keeps_the_budget) {
  const Ending end = run({}, {});
  ASSERT_EQ(end.decision.action, Action::freeze);
  EXPECT_NEAR(static_cast<double>(end.decision.most_bytes), 0.27 * bandwidth(end.rounds), mib);
  EXPECT_EQ(decide({}, {.max_rounds = 0}).most_bytes, 0u) << "a stop and copy takes what it takes";
  const Ending forced =
      run({.path_bytes_per_s = 100 * mib, .writes_bytes_per_s = 400 * mib}, {.on_no_progress = OnNoProgress::force});
  EXPECT_EQ(forced.decision.most_bytes, 0u);
  EXPECT_EQ(most_bytes_within({.overhead = 500ms}, 300ms), 4096u);
}

TEST(Policy, what_is_owed_is_sent_before_another_freeze) {
  Measurements measured = measured_of(run({}, {}));
  measured.owed_bytes = 400u << 20;
  measured.over_budget = 1;
  const Decision decision = decide(measured, {});
  EXPECT_EQ(decision.action, Action::another_round);
  EXPECT_THAT(decision.reason, HasSubstr("400.0 MiB"));
  measured.owed_bytes = 0;
  EXPECT_EQ(decide(measured, {}).action, Action::freeze);
  // Not even the last attempt is frozen with a debt, when that is not forced.
  measured.owed_bytes = 400u << 20;
  measured.over_budget = 3;
  EXPECT_EQ(decide(measured, {}).action, Action::another_round);
  measured.elapsed = 2min;
  EXPECT_EQ(decide(measured, {.max_total_time = 60s}).action, Action::give_up);
}

TEST(Policy, how_rounds_went_before_the_rate_was_raised_says_nothing) {
  Measurements measured{.rounds = {left(2000), left(2000)}, .overhead = 30ms};
  EXPECT_EQ(decide(measured, {}).action, Action::give_up);
  measured.rate_since = 3;  // raised while another one is under way
  EXPECT_EQ(decide(measured, {}).action, Action::another_round);
  measured.rounds.push_back(left(2000));
  EXPECT_EQ(decide(measured, {}).action, Action::another_round) << "it had some of both";
  measured.rounds.push_back(left(2000));
  EXPECT_EQ(decide(measured, {}).action, Action::give_up);
  // Nor are those that did not get ahead counted.
  measured.rate_since = 5;
  EXPECT_EQ(decide(measured, {.on_no_progress = OnNoProgress::force}).action, Action::another_round);
}

// Within the budget at the former rate.
TEST(Policy, nothing_is_frozen_by_a_rate_that_was_changed) {
  Measurements measured = measured_of(run({}, {}));
  EXPECT_EQ(decide(measured, {}).action, Action::freeze);
  measured.rate_since = measured.rounds.size() + 1;
  EXPECT_EQ(decide(measured, {}).action, Action::freeze) << "if it grew, what was within the budget still is";
  measured.rate_fell = true;
  EXPECT_EQ(decide(measured, {}).action, Action::another_round);
  EXPECT_THAT(decide(measured, {}).reason, HasSubstr("the rate has changed"));
  EXPECT_EQ(decide(measured, {.max_rounds = 1}).action, Action::freeze) << "there are none left to measure it by";
}

TEST(Policy, the_path_carries_what_it_has_carried_since_its_rate_was_changed) {
  const auto sent = [](double mib_per_s) {
    return RoundRecord{.bytes = 100u << 20, .seconds = 100 / mib_per_s, .dirty_bytes_after = 10u << 20};
  };
  Measurements measured{.rounds = {sent(1000), sent(1000), sent(1000), sent(10)}, .overhead = 30ms, .rate_since = 3};
  EXPECT_DOUBLE_EQ(usable_bandwidth(measured), 10 * mib);
  measured.rounds.push_back({.bytes = 1u << 20, .seconds = 1, .dirty_bytes_after = 10u << 20});
  measured.rate_since = 4;
  EXPECT_DOUBLE_EQ(usable_bandwidth(measured), 1 * mib) << "small as it is, nothing else tells";
  measured.rounds.back() = {.bytes = 4096, .seconds = 0.01, .dirty_bytes_after = 4096};
  EXPECT_DOUBLE_EQ(usable_bandwidth(measured), 10 * mib) << "of an idle workload, which tells nothing of the path";
}

TEST(Policy, freezes_that_are_over_the_budget_again_and_again_are_no_progress) {
  Measurements measured = measured_of(run({}, {}));
  measured.over_budget = 2;
  EXPECT_EQ(decide(measured, {}).action, Action::freeze);
  measured.over_budget = 3;
  EXPECT_EQ(decide(measured, {}).action, Action::give_up);
  EXPECT_THAT(decide(measured, {}).reason, HasSubstr("too large 3 times"));
  EXPECT_EQ(decide(measured, {.on_no_progress = OnNoProgress::force}).action, Action::freeze);
  EXPECT_EQ(decide(measured, {.on_no_progress = OnNoProgress::force}).most_bytes, 0u);
  EXPECT_EQ(decide(measured, {.on_no_progress = OnNoProgress::throttle}).action, Action::throttle);
}

// Writes in proportion to its CPU time.
struct Throttled {
  Decision decision;
  Measurements measured;
  std::vector<unsigned> steps;
};
Throttled run_throttled(double writes_mib_per_s, const PolicyOptions& options) {
  constexpr double path = 100 * mib;
  Throttled t{.decision = {}, .measured = {.overhead = 30ms}, .steps = {}};
  double to_send = 1024 * mib;
  for (;;) {
    t.decision = decide(t.measured, options);
    if (t.decision.action == Action::throttle) {
      t.steps.push_back(t.decision.cpu_percent);
      t.measured.cpu_percent = t.decision.cpu_percent;
      t.measured.throttled_since = t.measured.rounds.size();
      t.measured.over_budget = 0;
      continue;
    }
    if (t.decision.action != Action::another_round || t.measured.rounds.size() > 200) return t;
    const double seconds = 0.005 + to_send / path;
    const double left = std::min(1024 * mib, writes_mib_per_s * mib * t.measured.cpu_percent / 100 * seconds);
    t.measured.rounds.push_back({.bytes = static_cast<std::uint64_t>(to_send),
                                 .seconds = seconds,
                                 .dirty_bytes_after = static_cast<std::uint64_t>(left)});
    to_send = left;
  }
}

TEST(Policy, throttles_step_by_step_until_the_rounds_shrink) {
  const Throttled t = run_throttled(150, {.on_no_progress = OnNoProgress::throttle});
  EXPECT_EQ(t.decision.action, Action::freeze) << t.decision.reason;
  EXPECT_THAT(t.steps, testing::ElementsAre(80u, 60u, 40u));
  EXPECT_LE(t.decision.predicted_downtime, 300ms);
}

TEST(Policy, throttles_by_the_steps_that_it_is_given) {
  const Throttled t = run_throttled(900, {.on_no_progress = OnNoProgress::throttle, .throttle_steps = {50, 5}});
  EXPECT_THAT(t.steps, testing::ElementsAre(50u, 5u));
  EXPECT_EQ(t.decision.action, Action::freeze) << t.decision.reason;
}

TEST(Policy, does_not_throttle_what_converges) {
  EXPECT_THAT(run_throttled(60, {.on_no_progress = OnNoProgress::throttle}).steps, testing::IsEmpty());
}

TEST(Policy, gives_up_when_the_last_step_of_throttling_does_not_help) {
  const Throttled t = run_throttled(900, {.on_no_progress = OnNoProgress::throttle});
  EXPECT_EQ(t.decision.action, Action::give_up);
  EXPECT_THAT(t.steps, testing::ElementsAre(80u, 60u, 40u, 20u));
  EXPECT_THAT(t.decision.reason, HasSubstr("with 20 % of its CPU time"));
}

TEST(Policy, throttles_once_a_round_when_the_rounds_are_used_up) {
  const Throttled t = run_throttled(900, {.max_rounds = 2, .on_no_progress = OnNoProgress::throttle});
  EXPECT_EQ(t.decision.action, Action::give_up);
  EXPECT_EQ(t.steps.size(), 4u);
  EXPECT_EQ(t.measured.rounds.size(), 6u);
}

TEST(Policy, does_not_throttle_when_the_time_is_over) {
  Measurements measured = run_throttled(900, {.max_rounds = 2}).measured;
  measured.elapsed = 61s;
  const Decision decision = decide(measured, {.max_total_time = 60s, .on_no_progress = OnNoProgress::throttle});
  EXPECT_EQ(decision.action, Action::give_up);
  EXPECT_THAT(decision.reason, HasSubstr("the time for the whole migration is over"));
}

TEST(Policy, ends_with_the_rounds) {
  Measurements measured{.rounds = {left(400), left(200)}, .overhead = 30ms};
  EXPECT_EQ(decide(measured, {.max_rounds = 3}).action, Action::another_round);
  measured.rounds.push_back(left(150));
  const Decision decision = decide(measured, {.max_rounds = 3});
  EXPECT_EQ(decision.action, Action::give_up);
  EXPECT_THAT(decision.reason, HasSubstr("rounds are used up"));
}

// Shrinks by 12 % each time: progress, but not soon enough.
const Model slow{.memory_bytes = 100'000 * mib,
                 .path_bytes_per_s = 100 * mib,
                 .writes_bytes_per_s = 88 * mib,
                 .writable_bytes = 1e12};

TEST(Policy, gives_up_early_when_the_rounds_that_are_left_cannot_be_enough) {
  const Ending end = run(slow, {.max_rounds = 5});
  EXPECT_EQ(end.decision.action, Action::give_up);
  EXPECT_EQ(end.rounds.size(), 1u);
  // Even if it wrote half as much from now on: 880 s x 0.44^4.
  EXPECT_THAT(end.decision.reason, HasSubstr("the budget cannot be met, with 330"));
  EXPECT_NEAR(std::chrono::duration<double>(end.decision.attainable).count(), 880, 1);
  // Enough of them are another matter.
  EXPECT_EQ(run(slow, {.max_rounds = 200}).decision.action, Action::freeze);
}

TEST(Policy, gives_up_early_when_the_time_that_is_left_cannot_be_enough) {
  EXPECT_EQ(run(slow, {.max_rounds = 200, .max_total_time = 3000s}).rounds.size(), 2u);
  EXPECT_EQ(run(slow, {.max_rounds = 200, .max_total_time = 20'000s}).decision.action, Action::freeze);
}

TEST(Policy, gives_up_after_the_first_round_when_half_of_what_it_saw_is_too_much) {
  const Measurements measured{
      .rounds = {{.bytes = 1000u << 20, .seconds = 10, .dirty_bytes_after = std::uint64_t{2500} << 20}}};
  EXPECT_EQ(decide(measured, {}).action, Action::give_up);
  EXPECT_EQ(decide(measured, {.on_no_progress = OnNoProgress::force}).action, Action::another_round);
  Measurements calmer = measured;
  calmer.rounds[0].dirty_bytes_after = std::uint64_t{1500} << 20;
  EXPECT_EQ(decide(calmer, {}).action, Action::another_round) << "it may have been a burst";
}

TEST(Policy, does_not_give_up_early_after_a_burst) {
  // Two seconds of everything at once, then almost nothing.
  const Trace burst{.about = "",
                    .memory_bytes = static_cast<std::uint64_t>(1000 * mib),
                    .loads = {{.from_s = 0, .dirty = sweep(800 * mib, 800 * mib)},
                              {.from_s = 2, .dirty = sweep(10 * mib, 800 * mib)}}};
  const Simulation s = simulate(burst, {.bytes_per_s = 500 * mib}, {});
  EXPECT_EQ(s.decision.action, Action::freeze) << s.decision.reason;
}

TEST(Policy, does_not_take_a_few_short_rounds_for_certainty) {
  const auto busy = [](double seconds) -> RoundRecord {
    const auto bytes = static_cast<std::uint64_t>(1000 * mib * seconds);
    return {.bytes = bytes, .seconds = seconds, .dirty_bytes_after = 2 * bytes};
  };
  const Measurements short_ones{.rounds = {busy(0.2), busy(0.4)}, .overhead = 30ms};
  EXPECT_EQ(decide(short_ones, {}).action, Action::another_round);
  const Measurements long_ones{.rounds = {busy(2), busy(4)}, .overhead = 30ms};
  EXPECT_EQ(decide(long_ones, {}).action, Action::give_up);
}

TEST(Policy, refuses_at_once_what_the_pause_alone_is_too_long_for) {
  const Measurements measured{.overhead = 30ms};
  const Decision decision = decide(measured, {.downtime = 20ms});
  EXPECT_EQ(decision.action, Action::give_up);
  EXPECT_EQ(decision.attainable, 30ms);
  EXPECT_THAT(decision.reason, HasSubstr("a pause takes 30 ms without any page, the budget is 20 ms"));
  EXPECT_EQ(decide(measured, {.downtime = 30ms}).action, Action::another_round);
  EXPECT_EQ(decide(measured, {.downtime = 20ms, .on_no_progress = OnNoProgress::force}).action, Action::another_round);
  EXPECT_EQ(decide(measured, {.downtime = 20ms, .max_rounds = 0}).action, Action::freeze);
}

TEST(Policy, refuses_what_the_probe_says_cannot_be_kept_whatever_was_to_be_done_about_it) {
  const Model hopeless{.path_bytes_per_s = 100 * mib, .writes_bytes_per_s = 400 * mib};
  for (const OnNoProgress choice : {OnNoProgress::abort, OnNoProgress::force, OnNoProgress::throttle}) {
    const Ending end = run(hopeless, {.on_no_progress = choice, .probe = 2s});
    EXPECT_EQ(end.decision.action, Action::give_up);
    EXPECT_TRUE(end.decision.refuses);
    EXPECT_EQ(end.rounds.size(), 2u) << "one counts by half";
  }
  EXPECT_FALSE(run(hopeless, {}).decision.refuses) << "without a probe it has begun";
}

TEST(Policy, refuses_nothing_that_converges_and_nothing_once_the_probe_is_over) {
  EXPECT_EQ(run({}, {.probe = 2s}).decision.action, Action::freeze);
  // It converged for longer than that, and then does no more.
  const RoundRecord first{.bytes = 400u << 20, .seconds = 4, .dirty_bytes_after = 200u << 20};
  const RoundRecord second{.bytes = 200u << 20, .seconds = 2, .dirty_bytes_after = 190u << 20};
  const PolicyOptions probing{.max_rounds = 4, .on_no_progress = OnNoProgress::force, .probe = 2s};
  const Measurements over{.rounds = {first, second, second, second}, .overhead = 30ms};
  EXPECT_EQ(decide(over, probing).action, Action::freeze) << "as it was asked for";
  PolicyOptions abort = probing;
  abort.on_no_progress = OnNoProgress::abort;
  EXPECT_EQ(decide(over, abort).action, Action::give_up);
  EXPECT_FALSE(decide(over, abort).refuses);
  // Nor after a stop that did not end the matter, or with less CPU time.
  Measurements early{.rounds = {second}, .overhead = 30ms};
  abort.max_rounds = 1;
  EXPECT_TRUE(decide(early, abort).refuses);
  early.over_budget = 1;
  EXPECT_FALSE(decide(early, abort).refuses);
  early.over_budget = 0;
  early.cpu_percent = 80;
  EXPECT_FALSE(decide(early, abort).refuses);
}

TEST(Policy, gives_no_verdict_before_the_probe_has_its_length) {
  const Model slow{.memory_bytes = 300 * mib, .path_bytes_per_s = 100 * mib, .writes_bytes_per_s = 110 * mib};
  for (const auto& [probe, rounds] : {std::pair(2s, 2u), std::pair(8s, 3u)}) {
    const Ending end = run(slow, {.probe = probe});
    EXPECT_TRUE(end.decision.refuses) << end.decision.reason;
    EXPECT_EQ(end.rounds.size(), rounds) << "of three seconds each";
  }
}

TEST(Policy, without_rounds_stops_and_copies) {
  const Ending end = run({.writes_bytes_per_s = 0}, {.max_rounds = 0});
  EXPECT_EQ(end.decision.action, Action::freeze);
  EXPECT_EQ(end.rounds.size(), 0u);
}

TEST(Policy, ends_with_the_time_for_the_whole_migration) {
  const Model slow{.memory_bytes = 100'000 * mib, .path_bytes_per_s = 100 * mib, .writes_bytes_per_s = 50 * mib};
  const Ending end = run(slow, {.max_total_time = 60s});
  EXPECT_EQ(end.decision.action, Action::give_up);
  EXPECT_EQ(end.rounds.size(), 1u);
}

TEST(Policy, bandwidth_comes_from_the_newest_round_that_is_large_enough_to_tell) {
  std::vector<RoundRecord> rounds{
      {.bytes = 1000u << 20, .seconds = 1}, {.bytes = 20u << 20, .seconds = 0.2}, {.bytes = 4096, .seconds = 0.01}};
  EXPECT_DOUBLE_EQ(bandwidth(rounds), 100 * mib);
  EXPECT_EQ(bandwidth({}), 0);
}

TEST(Policy, rounds_without_any_byte_divide_by_nothing) {
  Measurements measured{.rounds = {{.number = 0, .seconds = 0, .dirty_bytes_after = 4096}}};
  EXPECT_EQ(decide(measured, {}).action, Action::another_round);
  measured.rounds[0].dirty_bytes_after = 0;
  EXPECT_EQ(decide(measured, {}).action, Action::freeze);
}

}  // namespace
}  // namespace godwit::coordinator
