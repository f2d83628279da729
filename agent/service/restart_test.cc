// An agent that dies and comes back, in every phase: exactly one copy lives, and the two sides agree on which.
#include "agent/service/test_migration.h"

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class RestartTest : public MigrationTest {
 protected:
  // As if it had died right after the record: the action that it announces has not been done.
  static void enter(TestNode& node, const Key& key, auto phase) {
    Records& records = node.records();
    records.enter(Record(*records.find(key)), phase);
  }
  Key source_key() const { return key_of(id, Side::source); }
  Key destination_key() const { return key_of(id, Side::destination); }

  void expect_running_at_the_destination_only(pid_t root) {
    EXPECT_TRUE(becomes(SourcePhase::killed));
    EXPECT_EQ(destination(), DestinationPhase::resumed);
    EXPECT_EQ(state_at(b), "running");
    EXPECT_EQ(state_at(a), "none");
    EXPECT_TRUE(ends(root));
    EXPECT_TRUE(pair.turn_until([&] { return b.records().find(destination_key())->settled; }));
  }
};

TEST_F(RestartTest, of_an_idle_agent_finds_its_workloads) {
  const pid_t root = run_workload();
  pair.restart(a);
  EXPECT_EQ(a.workloads().info("job").pid(), root);
  EXPECT_EQ(state_at(a), "running");
}

TEST_F(RestartTest, of_a_source_in_pre_copy_costs_the_workload_nothing) {
  const pid_t root = run_workload();
  identify("precopy");
  connect_all();
  round(0);
  pair.restart(a);
  discard();
  EXPECT_EQ(state_at(a), "running");
  EXPECT_EQ(::kill(root, 0), 0);
  EXPECT_EQ(destination(), DestinationPhase::refused);
  EXPECT_TRUE(pair.turn_until([&] { return b.records().find(destination_key())->settled; }))
      << "no source has heard it";
}

TEST_F(RestartTest, of_a_frozen_source_lets_the_workload_go_on) {
  const pid_t root = run_workload();
  identify("frozen");
  prepare_all();
  pair.restart(a);
  expect_running_at_the_source_only(root);
  EXPECT_EQ(destination(), DestinationPhase::refused);
}

TEST_F(RestartTest, of_a_frozen_source_whose_copy_is_gone_leaves_the_restored_one_to_run) {
  const pid_t root = run_workload();
  identify("frozen");
  prepare_all();
  kill_frozen(root);
  pair.restart(a);
  EXPECT_TRUE(becomes(SourcePhase::lost));
  EXPECT_TRUE(becomes(DestinationPhase::resumed));
  EXPECT_EQ(state_at(b), "running");
}

// What it held belonged to the boot before: it is nobody's who has the same numbers now.
TEST_F(RestartTest, after_a_reboot_keeps_the_boot_of_the_copy_that_is_lost) {
  const pid_t root = run_workload();
  identify("rebooted");
  prepare_all();
  kill_frozen(root);
  Record of_the_boot_before = *a.records().find(source_key());
  of_the_boot_before.boot_id = "of the boot before";
  a.records().enter(of_the_boot_before, SourcePhase::armed);
  pair.restart(a);
  EXPECT_TRUE(becomes(SourcePhase::lost));
  EXPECT_EQ(a.records().find(source_key())->boot_id, "of the boot before");
}

TEST_F(RestartTest, of_a_source_that_had_aborted_thaws) {
  const pid_t root = run_workload();
  identify("aborted");
  prepare_all();
  enter(a, source_key(), SourcePhase::aborted);
  pair.restart(a);
  expect_running_at_the_source_only(root);
}

// The destination gives up what may be the only copy on the word `thawed`: it is told when it is true.
TEST_F(RestartTest, of_a_source_that_cannot_thaw_has_not_thawed) {
  a.options.limits.undo = 100ms;
  run_workload();
  identify("stuck");
  prepare_all();
  // Below a cgroup that is frozen, and not with the agent's own programs.
  workload::Cgroup above = workload::Cgroup::create(a.options.cgroup + "/above");
  workload::Cgroup copy = workload::Cgroup::create(above.path() + "/copy");
  above.request_freeze();
  copy.request_freeze();
  Record aborted = *a.records().find(source_key());
  for (const pid_t pid : living_copy(a.agent->context(), aborted)->pids()) copy.add(pid);
  aborted.cgroup = "above/copy";
  a.records().enter(aborted, SourcePhase::aborted);
  pair.restart(a);
  EXPECT_FALSE(pair.turn_until([&] { return source() != SourcePhase::aborted; }, 2s)) << name(source());
  EXPECT_EQ(destination(), DestinationPhase::prepared);
  above.request_thaw();
  EXPECT_TRUE(becomes(SourcePhase::thawed));
  EXPECT_FALSE(copy.frozen());
  EXPECT_TRUE(becomes(DestinationPhase::refused));
}

// The destination may not come back for long, or ever.
TEST_F(RestartTest, of_a_destination_is_not_waited_for_with_what_the_source_needs_no_more) {
  b.options.listen = b.agent->context().peer_address;
  run_workload();
  identify("alone");
  commit(arm_all());
  enter(a, source_key(), SourcePhase::killing);
  b.drop();
  EXPECT_TRUE(becomes(SourcePhase::killed));
  const auto left = [&] {
    std::string names;
    for (const std::string& path :
         {a.agent->context().journal(source_key()), a.options.cgroup + "/jobs/" + to_string(source_key()),
          a.options.cgroup + "/" + a.records().find(source_key())->cgroup})
      if (std::filesystem::exists(path)) names += path + " ";
    return names;
  };
  EXPECT_TRUE(pair.turn_until([&] { return left().empty(); }, 8s)) << left();
  EXPECT_FALSE(a.records().find(source_key())->settled);
  b.renew();
  pair.start(b);
  EXPECT_TRUE(pair.turn_until([&] { return a.records().find(source_key())->settled; }));
}

TEST_F(RestartTest, of_an_armed_source_stays_frozen_and_asks) {
  const pid_t root = run_workload();
  identify("armed");
  const std::string token = arm_all();
  pair.restart(a);
  EXPECT_EQ(state_at(a), "frozen");
  EXPECT_EQ(source(), SourcePhase::armed);
  commit(token);
  expect_running_at_the_destination_only(root);
}

TEST_F(RestartTest, of_an_armed_source_that_nobody_commits_ends_in_a_refusal) {
  const pid_t root = run_workload();
  identify("unwanted");
  a.refuse_after(600ms);
  arm_all();
  pair.restart(a);
  expect_running_at_the_source_only(root);
}

TEST_F(RestartTest, of_a_killing_source_kills) {
  const pid_t root = run_workload();
  identify("killing");
  commit(arm_all());
  enter(a, source_key(), SourcePhase::killing);
  pair.restart(a);
  expect_running_at_the_destination_only(root);
}

TEST_F(RestartTest, of_a_building_destination_refuses) {
  const pid_t root = run_workload();
  identify("building");
  connect_all();
  round(0);
  pair.restart(b);
  EXPECT_EQ(destination(), DestinationPhase::refused);
  EXPECT_TRUE(becomes(SourcePhase::thawed));
  expect_running_at_the_source_only(root);
}

TEST_F(RestartTest, of_a_prepared_destination_holds_the_copy) {
  const pid_t root = run_workload();
  identify("prepared");
  const auto finished = prepare_all();
  const std::string token = arm(finished);
  pair.restart(b);
  EXPECT_EQ(destination(), DestinationPhase::prepared);
  EXPECT_EQ(state_at(b), "prepared");
  // Its peers' address has changed with the restart here, so only the coordinator reaches it.
  commit(token);
  EXPECT_EQ(state_at(b), "running");
  EXPECT_EQ(state_at(a), "frozen");
  EXPECT_EQ(::kill(root, 0), 0);
}

TEST_F(RestartTest, of_a_prepared_destination_whose_copy_is_gone_refuses) {
  run_workload();
  identify("gone");
  prepare_all();
  workload::Cgroup::open(b.options.cgroup + "/gone.1.dst")->kill();
  pair.restart(b);
  EXPECT_EQ(destination(), DestinationPhase::refused);
}

TEST_F(RestartTest, of_a_committed_destination_resumes) {
  run_workload();
  identify("committed");
  arm_all();
  enter(b, destination_key(), DestinationPhase::committed);
  pair.restart(b);
  EXPECT_EQ(destination(), DestinationPhase::resumed);
  EXPECT_EQ(state_at(b), "running");
}

TEST_F(RestartTest, of_a_committed_destination_whose_copy_is_gone_has_lost_it) {
  run_workload();
  identify("lost");
  arm_all();
  enter(b, destination_key(), DestinationPhase::committed);
  workload::Cgroup::open(b.options.cgroup + "/lost.1.dst")->kill();
  pair.restart(b);
  EXPECT_EQ(destination(), DestinationPhase::lost);
}

// It would kill what the first is just about to start, and each would know what the other does not.
TEST_F(RestartTest, beside_an_agent_that_has_the_same_state_is_refused_before_it_touches_anything) {
  const pid_t root = run_workload();
  const std::string file = a.options.state + "/workloads/job.workload";
  workload::Saved starting = *a.workloads().find("job");
  starting.mutable_info()->set_state("starting");
  write_file(file, starting.SerializeAsString());
  AgentOptions options = a.options;
  options.listen = "127.0.0.2:0";
  EXPECT_THAT(error_of([&] {
                Agent second(a.io->get_executor(), options);
                pair.run(a, second.start());
                pair.run(a, second.stop());
              }),
              HasSubstr("busy: another agent runs with the state in " + a.options.state));
  EXPECT_EQ(::kill(root, 0), 0);
  EXPECT_EQ(state_at(a), "running");
  write_file(file, a.workloads().find("job")->SerializeAsString());
  pair.restart(a);
  EXPECT_EQ(state_at(a), "running");
}

// Its records were taken away: it knows nothing of what it runs, so it must not kill it on anybody's word.
TEST_F(RestartTest, with_new_records_touches_nothing_for_an_id_that_they_do_not_have) {
  run_workload();
  identify("forgotten");
  const auto surveyed = survey();
  connect(prepare(surveyed));
  round(0);
  commit(arm(finish(freeze().round().last_sequence())));
  const pid_t copy = b.workloads().info("job").pid();
  EXPECT_TRUE(pair.turn_until([&] { return b.records().find(destination_key())->settled; }));
  std::filesystem::remove(b.options.state + "/records");
  pair.restart(b);
  EXPECT_THAT(error_of([&] { prepare(surveyed); }), HasSubstr("already"));
  EXPECT_EQ(discard().phase(), api::DESTINATION_REFUSED);
  pair.turn_until([] { return false; }, 500ms);
  EXPECT_EQ(::kill(copy, 0), 0);
  pair.restart(b);
  pair.turn_until([] { return false; }, 500ms);
  EXPECT_EQ(::kill(copy, 0), 0);
  EXPECT_EQ(state_at(b), "running");
}

TEST_F(RestartTest, of_a_resumed_destination_brings_its_list_of_workloads_up_to_date) {
  run_workload();
  identify("late");
  arm_all();
  enter(b, destination_key(), DestinationPhase::committed);
  workload::Cgroup::open(b.options.cgroup + "/late.1.dst")->request_thaw();
  enter(b, destination_key(), DestinationPhase::resumed);
  pair.restart(b);
  EXPECT_EQ(state_at(b), "running");
}

TEST_F(RestartTest, of_a_resumed_destination_does_nothing) {
  run_workload();
  identify("resumed");
  commit(arm_all());
  const pid_t there = b.workloads().info("job").pid();
  pair.restart(b);
  EXPECT_EQ(destination(), DestinationPhase::resumed);
  EXPECT_EQ(b.workloads().info("job").pid(), there);
  EXPECT_EQ(state_at(b), "running");
}

}  // namespace
}  // namespace godwit::service
