// A last difference that is too large: the workload runs on behind the record `frozen`, until a later Freeze is kept.
#include "agent/service/test_migration.h"

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class BudgetTest : public MigrationTest {
 protected:
  static constexpr std::uint64_t too_few_bytes = 4096, enough_bytes = 1u << 30;

  pid_t run_on_after_a_freeze(const std::string& migration) {
    const pid_t root = run_workload();
    identify(migration);
    connect_all();
    round(0);
    const api::Frozen answer = freeze(1, too_few_bytes);
    EXPECT_GT(answer.over_budget().bytes(), too_few_bytes);
    EXPECT_GT(answer.over_budget().stopped_ns(), 0u);
    EXPECT_FALSE(answer.has_round());
    expect_running_on();
    return root;
  }
  void expect_running_on() {
    EXPECT_EQ(source(), SourcePhase::frozen);
    EXPECT_EQ(state_at(a), "running");
    EXPECT_FALSE(living_copy(a.agent->context(), *a.records().find(key_of(id, Side::source)))->frozen());
  }
};

TEST_F(BudgetTest, further_rounds_and_another_freeze_move_it_all_the_same) {
  run_on_after_a_freeze("over");
  EXPECT_GT(freeze(1, too_few_bytes).over_budget().bytes(), 0u) << "the same request has the same answer";
  round(1);
  EXPECT_TRUE(freeze(2, too_few_bytes).has_over_budget());
  expect_running_on();
  round(2);
  const api::Frozen frozen = freeze(3, enough_bytes);
  EXPECT_FALSE(frozen.has_over_budget());
  EXPECT_EQ(state_at(a), "frozen");
  const std::string token = arm(finish(frozen.round().last_sequence()));
  commit(token);
  const api::SourceState killed = kill_source();
  EXPECT_EQ(killed.phase(), api::SOURCE_KILLED);
  EXPECT_LT(killed.frozen_ns(), 60'000'000'000u) << "counted from the last stop";
  expect_nothing_left_but("over.1.dst");
}

// What was caught up with is no round when there was too much of it, so the number does not grow: the coordinator,
// whose time is over, asks for the same freeze without a limit.
TEST_F(BudgetTest, the_same_freeze_with_another_limit_is_another_one) {
  run_on_after_a_freeze("forced-late");
  const api::Frozen frozen = freeze(1, 0);
  EXPECT_FALSE(frozen.has_over_budget());
  EXPECT_EQ(state_at(a), "frozen");
  commit(arm(finish(frozen.round().last_sequence())));
}

TEST_F(BudgetTest, pages_that_take_too_long_are_one_as_well) {
  const pid_t root = run_workload();
  identify("slow-pages");
  connect_all();
  round(0);
  const api::Frozen over = freeze(1, enough_bytes, 1000);
  EXPECT_GT(over.over_budget().bytes(), 0u);
  EXPECT_LE(over.over_budget().bytes(), enough_bytes);
  expect_running_on();
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  expect_running_at_the_source_only(root);
}

TEST_F(BudgetTest, when_forced_pages_may_take_long) {
  run_workload();
  identify("slow-pages");
  forced = true;
  connect_all();
  round(0);
  EXPECT_FALSE(freeze(1, enough_bytes, 1000).has_over_budget());
}

TEST_F(BudgetTest, it_is_not_armed_while_it_runs_on) {
  const pid_t root = run_on_after_a_freeze("early-arm");
  api::Finished finished;
  finished.set_boot_id(b.agent->context().facts.boot_id);
  EXPECT_THAT(error_of([&] { arm(finished); }), HasSubstr("the workload runs on"));
  // Not even when somebody else has frozen it.
  workload::Cgroup copy = *living_copy(a.agent->context(), *a.records().find(key_of(id, Side::source)));
  copy.freeze(1s);
  EXPECT_THAT(error_of([&] { arm(finished); }), HasSubstr("the workload runs on"));
  copy.thaw(1s);
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  expect_running_at_the_source_only(root);
}

TEST_F(BudgetTest, what_is_frozen_at_last_is_neither_frozen_again_nor_asked_for_more) {
  run_on_after_a_freeze("twice");
  const auto frozen = freeze(2, enough_bytes);
  EXPECT_THAT(error_of([&] { freeze(3, too_few_bytes); }), HasSubstr("frozen already"));
  EXPECT_THAT(error_of([&] { round(4); }), HasSubstr("frozen copy"));
  EXPECT_TRUE(freeze(1, too_few_bytes).has_over_budget()) << "a late repetition changes nothing";
  EXPECT_EQ(state_at(a), "frozen");
  commit(arm(finish(frozen.round().last_sequence())));
}

TEST_F(BudgetTest, an_abort_while_it_runs_on_costs_nothing) {
  const pid_t root = run_on_after_a_freeze("aborted");
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  expect_running_at_the_source_only(root);
  EXPECT_TRUE(becomes(DestinationPhase::refused));
}

TEST_F(BudgetTest, a_restart_while_it_runs_on_ends_the_attempt) {
  const pid_t root = run_on_after_a_freeze("restarted");
  pair.restart(a);
  expect_running_at_the_source_only(root);
  EXPECT_TRUE(becomes(DestinationPhase::refused));
}

TEST_F(BudgetTest, it_may_run_on_for_longer_than_it_may_be_frozen) {
  a.options.limits.unarmed = a.options.limits.undriven = 1500ms;
  pair.restart(a);
  const pid_t root = run_on_after_a_freeze("long");
  pair.turn_until([] { return false; }, 2500ms);
  expect_running_on();
  EXPECT_FALSE(freeze(2, enough_bytes).has_over_budget());
  EXPECT_TRUE(becomes(SourcePhase::thawed)) << "nobody arms it";
  expect_running_at_the_source_only(root);
}

TEST_F(BudgetTest, a_workload_that_ends_while_it_runs_on_has_ended) {
  const pid_t root = run_on_after_a_freeze("ended");
  kill_frozen(root);
  abort();
  EXPECT_TRUE(becomes(SourcePhase::lost));
  EXPECT_TRUE(becomes(DestinationPhase::refused));
  EXPECT_TRUE(pair.turn_until([&] { return state_at(a) == "exited" && state_at(b) == "none"; })) << state_at(a);
}

}  // namespace
}  // namespace godwit::service
