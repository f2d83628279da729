// Migrations whose last difference is too large, or whose workload writes too fast: further rounds, less CPU time, and
// what is done when neither helps.
#include "coordinator/testing/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace godwit::coordinator {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::Ge;
using testing::HasSubstr;
using testing::Le;
using Env = api::Envelope;

constexpr std::uint64_t too_large = 400'000'000;  // takes 400 ms

std::vector<FakeAgent::Body> from_round_zero(const FakeAgent& agent) {
  std::vector<FakeAgent::Body> asked;
  std::ranges::copy_if(agent.asked, std::back_inserter(asked), [](auto body) { return body != Env::kListWorkloads; });
  asked.erase(asked.begin(), std::ranges::find(asked, Env::kRound));
  return asked;
}

std::vector<nlohmann::json> events(const Cluster& c, const Migration& m, const std::string& kind) {
  std::vector<nlohmann::json> found;
  for (const StoredEvent& e : c.store.events(m.id, 0))
    if (e.kind == kind) found.push_back(e.body);
  return found;
}

net::awaitable<void> refresh(Cluster& c, std::string node) { co_await c.daemon.agents.refresh(node); }

Migration migrate(Cluster& c, OnNoProgress choice) {
  MigrationSpec spec = c.to_b();
  spec.policy.on_no_progress = choice;
  return c.finish(c.daemon.driver.start(spec));
}

TEST(Budget, a_last_difference_that_is_too_large_is_sent_by_another_round) {
  Cluster c;
  c.a.last_differences = {too_large, 4096};
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_THAT(from_round_zero(c.a), ElementsAre(Env::kRound, Env::kRound, Env::kFreeze, Env::kRound, Env::kFreeze,
                                                Env::kArm, Env::kKillSource));
  // 300 ms of budget, 20 ms of which are no pages, at 1 GB/s.
  const auto kept = AllOf(Ge(279'000'000u), Le(281'000'000u));
  EXPECT_THAT(c.a.most_bytes, ElementsAre(kept, kept));
  ASSERT_EQ(events(c, m, "over_budget").size(), 1u);
  const nlohmann::json event = events(c, m, "over_budget")[0];
  EXPECT_EQ(event["bytes"], too_large);
  EXPECT_EQ(event["attempt"], 1);
  EXPECT_EQ(event["stopped_ms"], 3.0);
  EXPECT_THAT(event["most_bytes"].get<std::uint64_t>(), kept);
  EXPECT_EQ(std::ranges::count(m.rounds, true, &RoundRecord::final), 1);
  EXPECT_TRUE(c.b.runs("redis"));
}

TEST(Budget, is_kept_by_giving_up_in_the_end) {
  Cluster c;
  c.a.last_differences = {too_large};
  const Migration m = migrate(c, OnNoProgress::abort);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_THAT(m.reason->message, HasSubstr("the last difference was too large 3 times"));
  EXPECT_EQ(m.reason->code, Errc::refused);
  EXPECT_EQ(c.a.most_bytes.size(), 3u);
  EXPECT_EQ(c.a.source, api::SOURCE_THAWED);
  EXPECT_TRUE(c.a.runs("redis"));
}

// Nothing but pages was asked of the workload by then.
TEST(Budget, that_the_probe_says_cannot_be_met_is_a_refusal) {
  for (const OnNoProgress choice : {OnNoProgress::abort, OnNoProgress::force, OnNoProgress::throttle}) {
    Cluster c;
    c.a.dirty_after = {950'000'000};
    MigrationSpec spec = c.to_b();
    spec.policy.on_no_progress = choice;
    spec.policy.probe = std::chrono::milliseconds(500);
    const Migration m = c.finish(c.daemon.driver.start(spec));
    EXPECT_EQ(m.outcome, Outcome::refused);
    EXPECT_EQ(m.reason->code, Errc::refused);
    EXPECT_THAT(m.reason->hint, HasSubstr("could be met (--downtime)"));
    EXPECT_EQ(m.rounds.size(), 2u) << "a single one counts by half";
    EXPECT_TRUE(c.a.most_bytes.empty() && c.a.throttled.empty());
    EXPECT_TRUE(c.a.runs("redis"));
  }
}

TEST(Budget, that_a_workload_stood_still_for_is_no_refusal_any_more) {
  Cluster c;
  c.a.last_differences = {too_large};
  MigrationSpec spec = c.to_b();
  spec.policy.probe = std::chrono::seconds(10);
  EXPECT_EQ(c.finish(c.daemon.driver.start(spec)).outcome, Outcome::rolled_back);
}

TEST(Budget, is_not_kept_when_forced) {
  Cluster c;
  c.a.last_differences = {too_large};
  const Migration m = migrate(c, OnNoProgress::force);
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  ASSERT_EQ(c.a.most_bytes.size(), 4u);
  EXPECT_GT(c.a.most_bytes[2], 0u);
  EXPECT_EQ(c.a.most_bytes[3], 0u) << "whatever it is";
}

TEST(Budget, a_stop_and_copy_has_none) {
  Cluster c;
  c.a.last_differences = {too_large};
  MigrationSpec spec = c.to_b();
  spec.policy.max_rounds = 0;
  EXPECT_EQ(c.finish(c.daemon.driver.start(spec)).outcome, Outcome::done);
  EXPECT_THAT(c.a.most_bytes, ElementsAre(0u));
}

TEST(Budget, of_a_stop_and_copy_is_not_kept_but_the_pause_is_foretold_and_recorded) {
  Cluster c;
  MigrationSpec spec = c.to_b();
  spec.policy.max_rounds = 0;
  spec.rate_limit = 100'000'000;
  const Migration m = c.finish(c.daemon.driver.start(spec));
  EXPECT_EQ(m.outcome, Outcome::done);
  EXPECT_NEAR(static_cast<double>(m.predicted_downtime_ns) / 1e9, 10.02, 0.001) << "a GB at that rate";
}

TEST(Budget, a_cancel_while_it_runs_on_rolls_back) {
  Cluster c;
  c.a.last_differences = {too_large};
  const std::string id = c.daemon.driver.start(c.to_b());
  c.until([&] { return !c.a.most_bytes.empty(); });
  c.a.always[Env::kRound] = Fault::hang_before;
  c.until([&] { return c.a.asked.back() == Env::kRound || !c.daemon.driver.find(id); });
  c.daemon.driver.cancel(id, "ann");
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_EQ(m.reason->code, Errc::cancelled);
  EXPECT_TRUE(c.a.runs("redis"));
}

TEST(Budget, a_last_difference_that_takes_too_long_is_sent_by_another_round) {
  Cluster c;
  c.a.slow_freezes = 2;
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_THAT(from_round_zero(c.a), ElementsAre(Env::kRound, Env::kRound, Env::kFreeze, Env::kRound, Env::kFreeze,
                                                Env::kRound, Env::kFreeze, Env::kArm, Env::kKillSource));
  EXPECT_THAT(c.a.limit_ms, ElementsAre(2600u, 2600u, 2600u)) << "twice the budget, and two seconds";
  const auto over = events(c, m, "over_budget");
  ASSERT_EQ(over.size(), 2u);
  EXPECT_EQ(over[1]["too_slow"], true);
  EXPECT_EQ(over[1]["attempt"], 2);
  EXPECT_TRUE(c.b.runs("redis"));
}

TEST(Budget, is_kept_by_giving_up_when_the_path_stays_too_slow) {
  Cluster c;
  c.a.slow_freezes = 9;
  const Migration m = migrate(c, OnNoProgress::abort);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_THAT(m.reason->message, HasSubstr("the last difference took too long 3 times"));
  EXPECT_EQ(m.reason->code, Errc::refused);
  EXPECT_TRUE(c.a.runs("redis"));
}

TEST(Budget, that_is_not_kept_when_forced_does_not_limit_the_pause) {
  Cluster c;
  EXPECT_EQ(migrate(c, OnNoProgress::force).outcome, Outcome::done);
  EXPECT_THAT(c.a.limit_ms, ElementsAre(500u + 600u)) << "without progress";
}

// The destination makes progress all the while.
TEST(Budget, ends_the_pause_of_a_destination_that_takes_too_long) {
  for (const OnNoProgress choice : {OnNoProgress::abort, OnNoProgress::throttle, OnNoProgress::force}) {
    const bool forced = choice == OnNoProgress::force;
    Limits limits = short_limits();
    limits.pause = std::chrono::seconds(10);
    limits.beyond_budget = std::chrono::milliseconds(100);
    Cluster c(limits);
    c.b.once[Env::kFinish] = Fault::late;
    c.b.late_by = std::chrono::milliseconds(1500);
    const Migration m = migrate(c, choice);
    EXPECT_EQ(m.outcome, forced ? Outcome::done : Outcome::rolled_back);
    EXPECT_EQ(std::ranges::count(c.a.asked, Env::kArm), forced ? 1 : 0) << "it was let go before";
    EXPECT_TRUE((forced ? c.b : c.a).runs("redis"));
    if (forced) continue;
    ASSERT_TRUE(m.reason);
    EXPECT_EQ(m.reason->code, Errc::refused);
    EXPECT_THAT(m.reason->message, HasSubstr("has stood still for 700 ms"));
    EXPECT_THAT(m.reason->message, HasSubstr("budget 300 ms"));
    EXPECT_EQ(c.a.source, api::SOURCE_THAWED);
  }
}

// Pages arrive all the while, but too slowly.
TEST(TotalTime, that_is_over_interrupts_a_round) {
  for (const OnNoProgress choice : {OnNoProgress::abort, OnNoProgress::throttle, OnNoProgress::force}) {
    const bool forced = choice == OnNoProgress::force;
    Limits limits = short_limits();
    limits.stall = std::chrono::seconds(10);
    Cluster c(limits);
    c.a.once[Env::kRound] = Fault::late;
    c.a.late_by = std::chrono::milliseconds(2000);
    c.a.dirty_after = {too_large, too_large, 4096};
    MigrationSpec spec = c.to_b();
    spec.policy.on_no_progress = choice;
    spec.policy.max_total_time = std::chrono::milliseconds(600);
    const Migration m = c.finish(c.daemon.driver.start(spec));
    EXPECT_EQ(m.outcome, forced ? Outcome::done : Outcome::rolled_back) << (m.reason ? m.reason->message : "");
    EXPECT_TRUE((forced ? c.b : c.a).runs("redis"));
    EXPECT_EQ(m.rounds.empty(), !forced);
    if (forced) continue;
    ASSERT_TRUE(m.reason);
    EXPECT_LT(m.total_s, 1.8);
    EXPECT_EQ(m.reason->code, Errc::refused);
    EXPECT_THAT(m.reason->message, HasSubstr("the time for the whole migration, 0.6 s, is over in round 0"));
    EXPECT_THAT(m.reason->hint, HasSubstr("--max-total-time"));
  }
}

TEST(TotalTime, that_is_over_lets_a_round_end_that_leads_to_a_freeze) {
  Cluster c;
  c.a.dirty_after = {20'000'000, 4096};  // within the budget after the first one, and another one leaves less
  MigrationSpec spec = c.to_b();
  spec.policy.max_total_time = std::chrono::milliseconds(600);
  const std::string id = c.daemon.driver.start(spec);
  c.until([&] { return std::ranges::count(c.a.asked, Env::kRound) == 1; });
  c.a.late_by = std::chrono::milliseconds(900);
  c.a.once[Env::kRound] = Fault::late;
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_GT(m.total_s, 0.8);
}

// Two rounds at a tenth of what the path carries would be told that the budget cannot be met.
TEST(Rate, that_is_raised_is_given_a_round_before_the_migration_is_given_up) {
  for (const bool raised : {false, true}) {
    Cluster c;
    c.a.dirty_after = {1'200'000'000, 1'200'000'000, 4096};
    MigrationSpec spec = c.to_b();
    spec.rate_limit = 100'000'000;
    const std::string id = c.daemon.driver.start(spec);
    c.until([&] { return std::ranges::count(c.a.asked, Env::kRound) == 1; });
    c.a.once[Env::kRound] = Fault::late;
    c.until([&] { return std::ranges::count(c.a.asked, Env::kRound) == 2; });
    if (raised) net::run_to_end(c.io, c.daemon.driver.set_rate(id, 0, "ann"));
    const Migration m = c.finish(id);
    EXPECT_EQ(m.outcome, raised ? Outcome::done : Outcome::rolled_back) << (m.reason ? m.reason->message : "");
    if (!raised) EXPECT_THAT(m.reason->message, HasSubstr("the budget cannot be met"));
  }
}

// Two rounds at half of what the path carries would be told that the budget cannot be met; the neighbour's end, its
// beginning or another rate of the node makes them say nothing.
TEST(Rate, that_is_shared_otherwise_is_given_a_round_before_anything_is_decided) {
  enum class Change { none, neighbour_ends, node_rate };
  for (const Change change : {Change::none, Change::neighbour_ends, Change::node_rate}) {
    Limits limits = short_limits();
    limits.stall = std::chrono::seconds(10);
    Cluster c(limits);
    api::WorkloadInfo other;
    other.set_name("other");
    other.set_id("run.4");
    other.set_state("running");
    c.a.workloads.push_back(other);
    c.until([&] { return c.a.channel() != nullptr; });
    net::run_to_end(c.io, refresh(c, "a"));
    MigrationSpec neighbour = c.to_b();
    neighbour.workload = "other";
    c.a.always[Env::kRound] = Fault::hang_before;
    const std::string next = c.daemon.driver.start(neighbour);
    c.until([&] { return std::ranges::count(c.a.asked, Env::kRound) == 1; });
    c.a.always.clear();

    c.a.dirty_after = {1'200'000'000, 1'200'000'000, 4096};
    const std::string id = c.daemon.driver.start(c.to_b());
    c.until([&] { return std::ranges::count(c.a.asked, Env::kRound) == 2; });
    c.a.once[Env::kRound] = Fault::late;
    c.a.late_by = std::chrono::milliseconds(1000);
    c.until([&] { return std::ranges::count(c.a.asked, Env::kRound) == 3; });
    if (change == Change::neighbour_ends) {
      c.daemon.driver.cancel(next, "ann");
      c.until([&] { return !c.daemon.driver.find(next); });
    }
    if (change == Change::node_rate)
      c.request({.method = "POST", .target = "/v1/nodes/a/rate", .body = R"({"rate_limit": 0})"});
    ASSERT_TRUE(c.daemon.driver.find(id)) << "the round has ended too early";
    const Migration m = c.finish(id);
    const bool changed = change != Change::none;
    EXPECT_EQ(m.outcome, changed ? Outcome::done : Outcome::rolled_back) << (m.reason ? m.reason->message : "");
    if (changed) continue;
    ASSERT_TRUE(m.reason);
    EXPECT_THAT(m.reason->message, HasSubstr("the budget cannot be met"));
    c.daemon.driver.cancel(next, "ann");
    c.until([&] { return !c.daemon.driver.find(next); });
  }
}

TEST(Throttling, goes_on_until_the_workload_writes_little_enough) {
  Cluster c;
  c.a.dirty_after = {900'000'000};
  c.a.writes_less_by = 2;
  const Migration m = migrate(c, OnNoProgress::throttle);
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_THAT(c.a.throttled, ElementsAre(80u, 60u));
  const auto steps = events(c, m, "throttle");
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[1]["cpu_percent"], 60);
  EXPECT_EQ(steps[1]["cpus"], 0.6);
}

TEST(Throttling, that_does_not_help_ends_in_giving_up_with_the_numbers) {
  Cluster c;
  c.a.dirty_after = {900'000'000};
  const Migration m = migrate(c, OnNoProgress::throttle);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_THAT(c.a.throttled, ElementsAre(80u, 60u, 40u, 20u));
  EXPECT_THAT(m.reason->message, HasSubstr("with 20 % of its CPU time"));
  EXPECT_THAT(m.reason->message, HasSubstr("budget 300 ms"));
  EXPECT_TRUE(c.a.runs("redis"));
}

TEST(Throttling, goes_by_the_steps_of_its_policy) {
  Cluster c;
  c.a.dirty_after = {900'000'000};
  MigrationSpec spec = c.to_b();
  spec.policy.on_no_progress = OnNoProgress::throttle;
  spec.policy.throttle_steps = {55, 5};
  EXPECT_EQ(c.finish(c.daemon.driver.start(spec)).outcome, Outcome::rolled_back);
  EXPECT_THAT(c.a.throttled, ElementsAre(55u, 5u));
}

TEST(Throttling, follows_when_the_last_difference_stays_too_large) {
  Cluster c;
  c.a.last_differences = {too_large, too_large, too_large, 4096};
  const Migration m = migrate(c, OnNoProgress::throttle);
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_THAT(c.a.throttled, ElementsAre(80u));
  EXPECT_EQ(c.a.most_bytes.size(), 4u);
}

TEST(Throttling, that_is_not_possible_is_said_by_name) {
  Cluster c;
  c.a.dirty_after = {900'000'000};
  c.a.always[Env::kThrottle] = Fault::refuse;
  c.a.refusal = Errc::kernel_missing;
  const Migration m = migrate(c, OnNoProgress::throttle);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_EQ(m.reason->code, Errc::kernel_missing);
  EXPECT_THAT(m.reason->message, HasSubstr("writes faster"));
  EXPECT_THAT(m.reason->message, HasSubstr("cannot be throttled: the fake agent says no"));
  EXPECT_TRUE(c.a.runs("redis"));
}

}  // namespace
}  // namespace godwit::coordinator
