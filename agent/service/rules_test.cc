// Conditions of the protocol that hold even where another one usually comes first: what is asked for out of turn, late,
// or of an id that nobody knows, and what the last life of an agent has left behind.
#include "agent/service/test_migration.h"

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class RulesTest : public MigrationTest {
 protected:
  // Another migration's record, as far as `phases` go.
  static void record(TestNode& node, Record other, auto... phases) {
    node.records().reserve(other);
    (node.records().enter(other, phases), ...);
  }
  std::string cgroup_of_the_copy() { return a.workloads().find("job")->cgroup(); }
  Key source_key() const { return key_of(id, Side::source); }
  static std::vector<pid_t> engine_of(TestNode& node, const Key& key) {
    const auto job = workload::Cgroup::open(node.options.cgroup + "/jobs/" + to_string(key));
    return job ? job->pids() : std::vector<pid_t>();
  }
  void arm_for(const std::string& node, const std::string& boot) {
    ask(a, [&](api::Envelope& e) {
      *e.mutable_arm()->mutable_id() = id;
      e.mutable_arm()->set_destination_node(node);
      e.mutable_arm()->set_destination_boot(boot);
    });
  }
  void expect_not_frozen(pid_t root) {
    EXPECT_FALSE(a.records().find(source_key()) && source() != SourcePhase::none);
    EXPECT_FALSE(workload::Cgroup::open(context().cgroup(cgroup_of_the_copy()))->frozen());
    EXPECT_EQ(::kill(root, 0), 0);
  }
  Context& context() { return a.agent->context(); }
};

TEST_F(RulesTest, a_copy_whose_making_has_not_resumed_is_not_frozen) {
  const pid_t root = run_workload();
  identify("early");
  connect_all();
  round(0);
  Record other;
  other.key = {.migration = "other", .epoch = 1, .side = Side::destination};
  other.workload = "made";
  other.cgroup = cgroup_of_the_copy();
  record(a, other, DestinationPhase::building, DestinationPhase::prepared, DestinationPhase::committed);
  EXPECT_THAT(error_of([&] { freeze(); }), HasSubstr("busy: the migration other of this copy is committed"));
  expect_not_frozen(root);
  a.records().enter(other, DestinationPhase::resumed);
  EXPECT_THAT(error_of([&] { freeze(2); }), "it succeeded");
}

// It belongs to another boot, so it holds nothing; but how it ended is not known.
TEST_F(RulesTest, a_copy_of_which_another_epoch_is_not_over_is_not_frozen) {
  const pid_t root = run_workload();
  identify("second");
  connect_all();
  round(0);
  Record other;
  other.key = {.migration = "other", .epoch = 1, .side = Side::source};
  other.workload = "moved";
  other.cgroup = cgroup_of_the_copy();
  other.boot_id = "of the boot before";
  record(a, other, SourcePhase::frozen, SourcePhase::armed);
  EXPECT_THAT(error_of([&] { freeze(); }), HasSubstr("busy: the migration other of this copy is armed"));
  expect_not_frozen(root);
}

// Its thaw is still to come, and would let go what this one holds.
TEST_F(RulesTest, a_copy_that_another_epoch_is_still_letting_go_is_not_frozen) {
  const pid_t root = run_workload();
  identify("second");
  connect_all();
  round(0);
  Record other;
  other.key = {.migration = "other", .epoch = 1, .side = Side::source};
  other.workload = "moved";
  other.cgroup = cgroup_of_the_copy();
  other.boot_id = context().facts.boot_id;
  record(a, other, SourcePhase::frozen, SourcePhase::aborted);
  EXPECT_THAT(error_of([&] { freeze(); }), HasSubstr("held by the migration other, which is aborted"));
  expect_not_frozen(root);
}

TEST_F(RulesTest, a_newer_epoch_that_was_seen_since_the_connection_forbids_the_freeze) {
  const pid_t root = run_workload();
  identify("older", 4);
  connect_all();
  round(0);
  Record newer;
  newer.key = {.migration = "newer", .epoch = 5, .side = Side::destination};
  newer.workload = "job";
  record(a, newer, DestinationPhase::refused);
  EXPECT_THAT(error_of([&] { freeze(); }), HasSubstr("refused: a newer epoch has been seen"));
  expect_not_frozen(root);
}

TEST_F(RulesTest, a_source_is_armed_for_the_destination_that_it_has_met_only) {
  run_workload();
  identify("bound");
  const std::string boot = prepare_all().boot_id();
  EXPECT_THAT(error_of([&] { arm_for("c", boot); }), HasSubstr("refused: this migration goes to 'b', not to 'c'"));
  EXPECT_EQ(source(), SourcePhase::frozen);
}

TEST_F(RulesTest, a_source_is_not_armed_for_a_destination_that_was_rebooted) {
  run_workload();
  identify("rebooted");
  prepare_all();
  EXPECT_THAT(error_of([&] { arm_for("b", "another"); }), HasSubstr("refused: node 'b' has been restarted"));
  EXPECT_EQ(source(), SourcePhase::frozen);
}

TEST_F(RulesTest, nothing_is_prepared_beside_an_unfinished_migration_of_the_workload) {
  run_workload();
  identify("second", 2);
  Record other;
  other.key = {.migration = "other", .epoch = 1, .side = Side::source};
  other.workload = "job";
  record(b, other, SourcePhase::frozen, SourcePhase::armed, SourcePhase::killing);
  const auto surveyed = survey();
  EXPECT_THAT(error_of([&] { prepare(surveyed); }),
              HasSubstr("busy: the migration other of 'job' is still killing on this node"));
  EXPECT_FALSE(b.records().find(key_of(id, Side::destination)));
  EXPECT_EQ(state_at(b), "none");
}

// It has lost its records, and begins the same migration once more: its secret is another one.
TEST_F(RulesTest, a_prepared_destination_does_not_hear_a_source_that_has_another_secret) {
  run_workload();
  identify("again");
  prepare_all();
  api::PeerHello hello;
  hello.set_commit_hash(std::string(32, 'x'));
  hello.set_relay_key(std::string(32, 'y'));
  const auto there = b.agent->migrations().destination(id);
  EXPECT_THAT(error_of([&] { there->hello(hello, {}); }), HasSubstr("denied: this is another attempt's source"));
  EXPECT_EQ(destination(), DestinationPhase::prepared);
}

// An engine that stands still does not see that its agent has died.
TEST_F(RulesTest, the_engines_of_a_former_life_are_ended_even_when_they_are_stopped) {
  const pid_t root = run_workload();
  identify("stopped");
  connect_all();
  round(0);
  freeze();
  const Key destination_key = key_of(id, Side::destination);
  for (const pid_t pid : engine_of(a, source_key())) ::kill(pid, SIGSTOP);
  for (const pid_t pid : engine_of(b, destination_key)) ::kill(pid, SIGSTOP);
  ASSERT_EQ(engine_of(a, source_key()).size(), 1u);
  ASSERT_EQ(engine_of(b, destination_key).size(), 1u);
  a.drop();
  b.drop();
  for (TestNode* node : {&a, &b}) {
    node->renew();
    pair.start(*node);
  }
  EXPECT_TRUE(engine_of(a, source_key()).empty());
  EXPECT_TRUE(engine_of(b, destination_key).empty());
  expect_running_at_the_source_only(root);
}

TEST_F(RulesTest, what_comes_late_for_an_epoch_that_was_cancelled_before_it_began_finds_it_over) {
  const pid_t root = run_workload();
  identify("unseen", 3);
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  pair.restart(a);
  EXPECT_NE(error_of([&] { survey(); }), "it succeeded");
  EXPECT_NE(error_of([&] { connect({}); }), "it succeeded");
  EXPECT_NE(error_of([&] { freeze(); }), "it succeeded");
  EXPECT_EQ(source(), SourcePhase::thawed);
  EXPECT_EQ(state_at(a), "running");
  EXPECT_EQ(::kill(root, 0), 0);
}

TEST_F(RulesTest, a_commit_and_a_kill_of_what_nobody_knows_do_nothing) {
  const pid_t root = run_workload();
  const pid_t there = run_workload(b);
  identify("unknown", 7);
  EXPECT_THAT(error_of([&] { commit(std::string(32, 'x')); }), HasSubstr("refused: the destination is none"));
  EXPECT_EQ(kill_source().phase(), api::SOURCE_NONE);
  EXPECT_FALSE(a.records().find(source_key()));
  EXPECT_FALSE(b.records().find(key_of(id, Side::destination)));
  EXPECT_EQ(::kill(root, 0), 0);
  EXPECT_EQ(::kill(there, 0), 0);
}

// The source says nothing by itself, and there is no coordinator that could carry the question.
TEST_F(RulesTest, a_prepared_destination_asks_over_the_channel_of_the_source) {
  run_workload();
  identify("asks");
  b.refuse_after(600ms);
  prepare_all();
  a.agent->migrations().source(id)->stop();
  a.records().enter(Record(*a.records().find(source_key())), SourcePhase::aborted);
  a.records().enter(Record(*a.records().find(source_key())), SourcePhase::thawed);
  EXPECT_TRUE(becomes(DestinationPhase::refused));
}

}  // namespace
}  // namespace godwit::service
