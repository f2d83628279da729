// A held copy of several processes: it is there when all of them are.

#include "agent/service/test_migration.h"
#include "agent/workload/process.h"

#include <thread>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class TreeTest : public MigrationTest {
 protected:
  workload::Cgroup copy() {
    return *workload::Cgroup::open(b.options.cgroup + "/" + to_string(key_of(id, Side::destination)));
  }
  // Not the root. The agents do nothing meanwhile.
  void kill_another() {
    for (const pid_t pid : copy().pids())
      if (pid != b.workloads().info("job").pid()) ::kill(pid, SIGKILL);
    for (int i = 0; i < 5000 && copy().pids().size() > 1; i++)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(copy().pids().size(), 1u);
  }
  void expect_source_goes_on(pid_t root) {
    expect_running_at_the_source_only(root);
    EXPECT_EQ(destination(), DestinationPhase::refused);
  }
};

TEST_F(TreeTest, of_several_processes_moves_and_outlives_a_restart_while_it_is_held) {
  const pid_t root = run_workload();
  identify("tree");
  const std::string token = arm_all();
  EXPECT_EQ(copy().pids().size(), 2u);
  b.options.listen = b.agent->context().peer_address;
  pair.restart(b);
  EXPECT_EQ(destination(), DestinationPhase::prepared);
  commit(token);
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
  EXPECT_TRUE(ends(root));
  EXPECT_EQ(copy().pids().size(), 2u);
  EXPECT_EQ(b.workloads().find("job")->held_size(), 0) << "what it is from now on is its own business";
}

TEST_F(TreeTest, that_lacks_a_process_is_not_committed) {
  const pid_t root = run_workload();
  identify("tree");
  const std::string token = arm_all();
  kill_another();
  EXPECT_THAT(error_of([&] { commit(token); }), HasSubstr("target_gone: the restored copy is not there any more"));
  expect_source_goes_on(root);
}

// Nobody commits, and nobody else looks.
TEST_F(TreeTest, that_loses_a_process_while_it_is_held_is_refused) {
  a.agent->context().options.limits.ask_after = 60s;
  const pid_t root = run_workload();
  identify("tree");
  prepare_all();
  kill_another();
  EXPECT_TRUE(becomes(DestinationPhase::refused));
  expect_source_goes_on(root);
}

TEST_F(TreeTest, that_loses_a_process_while_the_source_is_armed_is_refused) {
  const pid_t root = run_workload();
  identify("tree");
  arm_all();
  kill_another();
  expect_source_goes_on(root);
}

TEST_F(TreeTest, that_dies_while_it_is_held_is_refused) {
  const pid_t root = run_workload();
  identify("gone");
  prepare_all();
  copy().kill();
  EXPECT_TRUE(becomes(DestinationPhase::refused));
  expect_source_goes_on(root);
}

TEST_F(TreeTest, that_lacks_a_process_after_a_restart_is_refused) {
  const pid_t root = run_workload();
  identify("tree");
  arm_all();
  kill_another();
  pair.restart(b);
  EXPECT_EQ(destination(), DestinationPhase::refused);
  EXPECT_EQ(::kill(root, 0), 0);
}

TEST_F(TreeTest, that_lost_a_process_after_the_commit_was_recorded_is_lost) {
  run_workload();
  identify("tree");
  arm_all();
  b.records().enter(Record(*b.records().find(key_of(id, Side::destination))), DestinationPhase::committed);
  kill_another();
  pair.restart(b);
  EXPECT_EQ(destination(), DestinationPhase::lost);
}

TEST_F(TreeTest, whose_source_is_lost_runs_only_whole) {
  const pid_t root = run_workload();
  identify("tree");
  arm_all();
  kill_another();
  kill_frozen(root);
  EXPECT_TRUE(becomes(SourcePhase::lost));
  EXPECT_TRUE(becomes(DestinationPhase::refused));
}

}  // namespace
}  // namespace godwit::service
