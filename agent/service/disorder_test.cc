// What the two agents say to each other comes twice, late, in another order, and again when it is old: exactly one copy
// runs, at every moment and in the end.
#include "agent/service/test_middleman.h"
#include "agent/service/test_migration.h"

#include <algorithm>
#include <list>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

class Disorder : public MigrationTest {
 protected:
  void stand_between(Middleman::Habits habits) { between_.emplace_back(pair, *to, habits); }
  api::Finished prepare_in_disorder() {
    api::Prepared prepared = prepare(survey());
    prepared.set_peer_address(between_.back().address());
    connect(prepared);
    round(0);
    return finish(freeze().round().last_sequence());
  }
  // Not one that is killed while it is held: the kernel counts what dies there as thawed.
  static bool runs(TestNode& node, const std::string& copy) {
    const std::string path = node.options.cgroup + "/" + copy;
    const auto cgroup = workload::Cgroup::open(path);
    return cgroup && cgroup->populated() && read_file(path + "/cgroup.freeze").starts_with('0');
  }
  // Until it has ended at both sides, and a while longer, as old messages come again.
  void see_it_end() {
    const std::string here = a.workloads().find("job") ? a.workloads().find("job")->cgroup() : "";
    const std::string there = to_string(key_of(id, Side::destination));
    bool twice = false;
    const auto look = [&] { twice = twice || (!here.empty() && runs(a, here) && runs(*to, there)); };
    const auto over = [&] {
      look();
      const Record* s = a.records().find(key_of(id, Side::source));
      const Record* d = to->records().find(key_of(id, Side::destination));
      return s && s->settled && d && d->is_final();
    };
    EXPECT_TRUE(pair.turn_until(over, 30s)) << name(source()) << ", " << name(destination());
    pair.turn_until([&] { return over() && twice; }, 500ms);
    EXPECT_FALSE(twice);
  }

  std::list<Middleman> between_;  // the last one stands there now
};

class DisorderOfEachSeed : public Disorder, public testing::WithParamInterface<unsigned> {
 protected:
  void SetUp() override {
    MigrationTest::SetUp();
    stand_between({.seed = GetParam()});
  }
};

TEST_P(DisorderOfEachSeed, keeps_no_workload_from_moving) {
  const pid_t root = run_workload();
  identify("moves");
  commit(arm(prepare_in_disorder()));
  see_it_end();
  EXPECT_GT(between_.back().repeated(), 3u);
  EXPECT_EQ(source(), SourcePhase::killed);
  EXPECT_EQ(destination(), DestinationPhase::resumed);
  EXPECT_TRUE(ends(root));
  EXPECT_EQ(state_at(b), "running");
}

TEST_P(DisorderOfEachSeed, lets_the_source_go_that_nobody_commits) {
  const pid_t root = run_workload();
  identify("nobody");
  a.refuse_after(600ms);
  const std::string token = arm(prepare_in_disorder());
  see_it_end();
  EXPECT_NE(error_of([&] { commit(token); }), "it succeeded");
  expect_running_at_the_source_only(root);
}

// Asked for the commit and for a refusal in the same moment.
TEST_P(DisorderOfEachSeed, leaves_one_copy_when_a_commit_meets_a_refusal) {
  const pid_t root = run_workload();
  identify("meets");
  a.refuse_after(600ms);
  const std::string token = arm(prepare_in_disorder());
  pair.turn_until([] { return false; }, 580ms);
  error_of([&] { commit(token); });
  see_it_end();
  const bool moved = destination() == DestinationPhase::resumed;
  EXPECT_EQ(source(), moved ? SourcePhase::killed : SourcePhase::thawed);
  EXPECT_EQ(state_at(moved ? b : a), "running");
  EXPECT_NE(::kill(root, 0) == 0, moved);
}

TEST_P(DisorderOfEachSeed, leaves_the_copy_of_an_aborted_source) {
  const pid_t root = run_workload();
  identify("aborted");
  prepare_in_disorder();
  abort();
  see_it_end();
  expect_running_at_the_source_only(root);
}

// With a third node, to which the workload goes when the second has refused: whatever was ever said of the first
// attempt, by the coordinator or between the agents, comes again during the second, at all three.
class DisorderOfThree : public DisorderOfEachSeed {
 protected:
  void SetUp() override {
    DisorderOfEachSeed::SetUp();
    c = &pair.add_third();
  }
  void turn_to_third() {
    first_ = id;
    to = c;
    stand_between({.seed = GetParam() + 100});
    between_.back().repeat_also(between_.front());
    identify("second", 2);
  }
  // Answered or refused, by whomever.
  void repeat_first() {
    for (TestNode* node : pair.nodes()) {
      for (int what = 0; what < 7; what++) {
        api::Envelope again;
        switch (what) {
          case 0: *again.mutable_freeze()->mutable_id() = first_; break;
          case 1: *again.mutable_arm()->mutable_id() = first_; break;
          case 2: *again.mutable_abort()->mutable_id() = first_; break;
          case 3: *again.mutable_kill_source()->mutable_id() = first_; break;
          case 4: *again.mutable_discard()->mutable_id() = first_; break;
          case 5: *again.mutable_finish()->mutable_id() = first_; break;
          default: *again.mutable_commit()->mutable_id() = first_; again.mutable_commit()->set_commit_token(token_);
        }
        try {
          pair.ask(*node, std::move(again));
        } catch (const Error&) {
        }
      }
    }
  }
  // How many of the three run it.
  int running() {
    int count = 0;
    for (TestNode* node : pair.nodes())
      for (const auto& entry : std::filesystem::directory_iterator(node->options.cgroup))
        if (const std::string name = entry.path().filename(); name.ends_with("run") || name.ends_with("dst"))
          count += runs(*node, name);
    return count;
  }
  api::Finished prepare_in_disorder_and_repeat() {
    api::Prepared prepared = prepare(survey());
    repeat_first();
    prepared.set_peer_address(between_.back().address());
    connect(prepared);
    repeat_first();
    round(0);
    const std::uint64_t sequence = freeze().round().last_sequence();
    repeat_first();
    return finish(sequence);
  }

  TestNode* c = nullptr;
  api::MigrationId first_;
  std::string token_;
};

TEST_P(DisorderOfThree, tells_the_attempt_to_a_third_node_from_the_one_before) {
  const pid_t root = run_workload();
  identify("first");
  a.refuse_after(600ms);
  token_ = arm(prepare_in_disorder());
  see_it_end();  // nobody commits: the second node refuses
  ASSERT_EQ(source(), SourcePhase::thawed);
  turn_to_third();
  a.refuse_after(60s);
  const std::string token = arm(prepare_in_disorder_and_repeat());
  repeat_first();
  EXPECT_EQ(running(), 0) << "it is armed: nobody runs it";
  commit(token);
  repeat_first();
  EXPECT_LE(running(), 1);
  see_it_end();
  repeat_first();
  EXPECT_EQ(running(), 1);
  EXPECT_EQ(source(), SourcePhase::killed);
  EXPECT_EQ(destination(), DestinationPhase::resumed);
  EXPECT_EQ(state_at(*c), "running");
  EXPECT_EQ(state_at(b), "none");
  EXPECT_NE(::kill(root, 0), 0);
}

TEST_P(DisorderOfThree, keeps_the_third_node_out_while_the_second_may_still_commit) {
  run_workload();
  identify("first");
  token_ = arm(prepare_in_disorder());
  const api::MigrationId first = id;
  identify("second", 2);
  to = c;
  EXPECT_THAT(error_of([&] {
                connect_all();
                freeze();
              }),
              testing::StartsWith("busy: "));
  error_of([&] { discard(); });
  EXPECT_EQ(running(), 0);
  id = first;
  to = &b;
  commit(token_);
  see_it_end();
  EXPECT_EQ(running(), 1);
  EXPECT_EQ(state_at(b), "running");
  EXPECT_EQ(state_at(*c), "none");
}

INSTANTIATE_TEST_SUITE_P(Messages, DisorderOfThree, testing::Range(1u, 4u));

INSTANTIATE_TEST_SUITE_P(Messages, DisorderOfEachSeed, testing::Range(1u, 5u));

// Pages that are announced twice cannot be told from others: that ends the attempt, and costs the workload nothing.
TEST_F(Disorder, of_what_announces_pages_ends_the_attempt) {
  const pid_t root = run_workload();
  identify("pages");
  stand_between({.manifests_twice = true});
  EXPECT_NE(error_of([&] { arm(prepare_in_disorder()); }), "it succeeded");
  abort();
  discard();
  expect_running_at_the_source_only(root);
}

}  // namespace
}  // namespace godwit::service
