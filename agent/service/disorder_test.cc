// What the two agents say to each other comes twice, late, in another order, and again when it is old: exactly one copy
// runs, at every moment and in the end.
#include "agent/service/test_middleman.h"
#include "agent/service/test_migration.h"

#include <algorithm>
#include <optional>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

class Disorder : public MigrationTest {
 protected:
  void stand_between(Middleman::Habits habits) { between_.emplace(pair, habits); }
  api::Finished prepare_in_disorder() {
    api::Prepared prepared = prepare(survey());
    prepared.set_peer_address(between_->address());
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
    const auto look = [&] { twice = twice || (!here.empty() && runs(a, here) && runs(b, there)); };
    const auto over = [&] {
      look();
      const Record* s = a.records().find(key_of(id, Side::source));
      const Record* d = b.records().find(key_of(id, Side::destination));
      return s && s->settled && d && d->is_final();
    };
    EXPECT_TRUE(pair.turn_until(over, 30s)) << name(source()) << ", " << name(destination());
    pair.turn_until([&] { return over() && twice; }, 500ms);
    EXPECT_FALSE(twice);
  }

  std::optional<Middleman> between_;
};

class DisorderOfEachSeed : public Disorder, public testing::WithParamInterface<unsigned> {
  void SetUp() override {
    MigrationTest::SetUp();
    stand_between({.seed = GetParam()});
  }
};

TEST_P(DisorderOfEachSeed, keeps_no_workload_from_moving) {
  const pid_t root = run_workload();
  identify("moves");
  a.agent->context().options.limits.refuse_after = 60s;
  commit(arm(prepare_in_disorder()));
  see_it_end();
  EXPECT_GT(between_->repeated(), 3u);
  EXPECT_EQ(source(), SourcePhase::killed);
  EXPECT_EQ(destination(), DestinationPhase::resumed);
  EXPECT_NE(::kill(root, 0), 0);
  EXPECT_EQ(state_at(b), "running");
}

TEST_P(DisorderOfEachSeed, lets_the_source_go_that_nobody_commits) {
  const pid_t root = run_workload();
  identify("nobody");
  const std::string token = arm(prepare_in_disorder());
  see_it_end();
  EXPECT_NE(error_of([&] { commit(token); }), "it succeeded");
  expect_running_at_the_source_only(root);
}

// Asked for the commit and for a refusal in the same moment.
TEST_P(DisorderOfEachSeed, leaves_one_copy_when_a_commit_meets_a_refusal) {
  const pid_t root = run_workload();
  identify("meets");
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

INSTANTIATE_TEST_SUITE_P(Messages, DisorderOfEachSeed, testing::Range(1u, 5u));

// Pages that are announced twice cannot be told from others: that ends the attempt, and costs the workload nothing.
TEST_F(Disorder, of_what_announces_pages_ends_the_attempt) {
  const pid_t root = run_workload();
  identify("pages");
  stand_between({.manifests = true});
  EXPECT_NE(error_of([&] { arm(prepare_in_disorder()); }), "it succeeded");
  abort();
  discard();
  expect_running_at_the_source_only(root);
}

}  // namespace
}  // namespace godwit::service
