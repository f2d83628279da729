#include "agent/service/test_fault.h"
#include "agent/service/test_migration.h"
#include "agent/workload/process.h"

namespace godwit::service {
namespace {

using testing::HasSubstr;

TEST_F(MigrationTest, moves_a_workload_and_leaves_nothing_at_the_source) {
  const pid_t root = run_workload();
  identify("good");
  const std::string token = arm_all();
  EXPECT_EQ(state_at(a), "frozen");
  EXPECT_EQ(state_at(b), "prepared");
  EXPECT_GE(commit(token).steps_size(), 3);
  EXPECT_EQ(state_at(b), "running");
  const api::SourceState state = kill_source();
  EXPECT_EQ(state.phase(), api::SOURCE_KILLED);
  EXPECT_GT(state.frozen_ns(), 0u);
  EXPECT_TRUE(ends(root));
  EXPECT_EQ(state_at(a), "none");
  const api::WorkloadInfo there = b.workloads().info("job");
  EXPECT_EQ(there.guest_pid(), 2);
  EXPECT_EQ(there.id(), "good.1");
  expect_nothing_left_but("good.1.dst");
  // Its end is reported where it lives now.
  ::kill(there.pid(), SIGTERM);
  EXPECT_TRUE(pair.turn_until([&] { return state_at(b) == "exited"; }));
  EXPECT_EQ(b.workloads().info("job").exit_code(), 128 + SIGTERM);
}

TEST_F(MigrationTest, answers_repeated_requests_alike) {
  run_workload();
  identify("again");
  connect_all();
  const auto first = round(0);
  EXPECT_EQ(round(0).last_sequence(), first.last_sequence());
  const auto frozen = freeze();
  EXPECT_EQ(freeze().round().last_sequence(), frozen.round().last_sequence());
  const auto finished = finish(frozen.round().last_sequence());
  finish(frozen.round().last_sequence());
  const std::string token = arm(finished);
  EXPECT_EQ(arm(finished), token);
  EXPECT_EQ(commit(token).steps_size(), commit(token).steps_size());
  const auto killed = kill_source();
  EXPECT_EQ(kill_source().frozen_ns(), killed.frozen_ns());
}

TEST_F(MigrationTest, does_not_touch_what_cannot_be_carried) {
  const pid_t root = run_workload();
  identify("refuse-survey");
  EXPECT_THAT(survey().refusals(0), HasSubstr("fd 7: a unicorn: cannot be carried"));
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  expect_running_at_the_source_only(root);
}

TEST_F(MigrationTest, refuses_a_name_that_is_taken) {
  run_workload();
  run_workload(b);
  identify("taken");
  const auto surveyed = survey();
  EXPECT_THAT(error_of([&] { prepare(surveyed); }), HasSubstr("refused: there is a workload 'job' on this node"));
}

TEST_F(MigrationTest, refuses_register_state_that_the_cpu_lacks_before_the_source_is_touched) {
  const pid_t root = run_workload();
  identify("future-cpu");
  const auto surveyed = survey();
  EXPECT_THAT(error_of([&] { prepare(surveyed); }), HasSubstr("refused: register state is in use that this CPU does"));
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  expect_running_at_the_source_only(root);
}

TEST_F(MigrationTest, refuses_a_pid_that_is_taken_and_names_its_holder) {
  workload::Child bare = workload::spawn({.program = "/bin/sleep", .arguments = {"60"}});
  const std::string home = workload::cgroup_of(bare.pid, workload::cgroup2_mount());
  identify("bare");
  const auto surveyed = ask(a, [&](api::Envelope& e) {
                          *e.mutable_survey()->mutable_id() = id;
                          e.mutable_survey()->set_pid(bare.pid);
                        }).surveyed();
  EXPECT_EQ(surveyed.workload(), fmt::format("sleep-{}", bare.pid));
  EXPECT_THAT(error_of([&] { prepare(surveyed); }),
              HasSubstr(fmt::format("PID {} of sleep is taken here (sleep)", bare.pid)));
  abort();
  EXPECT_EQ(workload::cgroup_of(bare.pid, workload::cgroup2_mount()), home);
  workload::send_signal(bare.pidfd.get(), SIGKILL);
  workload::wait_for_exit(bare.pidfd.get(), std::chrono::seconds(5));
}

TEST_F(MigrationTest, a_commit_needs_the_token_of_an_armed_source) {
  run_workload();
  identify("token");
  const auto finished = prepare_all();
  EXPECT_THAT(error_of([&] { commit(std::string(32, 'x')); }), HasSubstr("denied"));
  EXPECT_EQ(destination(), DestinationPhase::prepared);
  commit(arm(finished));
}

TEST_F(MigrationTest, a_source_is_not_killed_on_the_word_of_the_coordinator) {
  const pid_t root = run_workload();
  identify("word");
  arm_all();
  EXPECT_THAT(error_of([&] { kill_source(); }), HasSubstr("not resumed"));
  EXPECT_EQ(::kill(root, 0), 0);
}

TEST_F(MigrationTest, a_destination_does_not_give_up_the_last_copy_on_the_word_of_the_coordinator) {
  run_workload();
  identify("last");
  const std::string token = arm_all();
  EXPECT_EQ(discard().phase(), api::DESTINATION_PREPARED);
  commit(token);
}

TEST_F(MigrationTest, what_follows_the_commit_is_done_when_the_disk_has_room_again) {
  run_workload();
  identify("full");
  const std::string token = arm_all();
  const std::string file = b.options.state + "/workloads/job.workload";
  std::filesystem::create_directory(file + ".new");  // nothing can be written there
  EXPECT_THAT(error_of([&] { commit(token); }), HasSubstr("job.workload.new"));
  EXPECT_EQ(state_at(b), "running");
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
  pair.turn_until([] { return false; }, std::chrono::milliseconds(500));
  EXPECT_FALSE(a.records().find(key_of(id, Side::source))->settled) << "the destination has something left to do";
  std::filesystem::remove(file + ".new");
  EXPECT_TRUE(pair.turn_until([&] { return a.records().find(key_of(id, Side::source))->settled; }));
  workload::Saved saved;
  EXPECT_TRUE(saved.ParseFromString(read_file(file)));
  EXPECT_EQ(saved.info().state(), "running");
  expect_nothing_left_but("full.1.dst");
  ::kill(b.workloads().info("job").pid(), SIGTERM);
  EXPECT_TRUE(pair.turn_until([&] { return state_at(b) == "exited"; })) << "nobody sees it end";
}

TEST_F(MigrationTest, an_armed_source_gets_a_refusal_when_nobody_commits) {
  const pid_t root = run_workload();
  identify("nobody");
  a.refuse_after(std::chrono::milliseconds(600));
  const std::string token = arm_all();
  EXPECT_TRUE(becomes(SourcePhase::thawed));
  EXPECT_EQ(destination(), DestinationPhase::refused);
  EXPECT_THAT(error_of([&] { commit(token); }), HasSubstr("refused"));
  expect_running_at_the_source_only(root);
}

TEST_F(MigrationTest, an_armed_source_learns_of_the_commit_by_itself) {
  const pid_t root = run_workload();
  identify("silent");
  commit(arm_all());
  EXPECT_TRUE(becomes(SourcePhase::killed));
  EXPECT_TRUE(ends(root));
  EXPECT_EQ(state_at(b), "running");
}

TEST_F(MigrationTest, a_late_connect_does_not_touch_a_copy_that_another_migration_holds) {
  const pid_t root = run_workload();
  identify("late", 2);
  survey();
  identify("armed", 1);
  const auto prepared = prepare(survey());
  connect(prepared);
  round(0);
  const std::string token = arm(finish(freeze().round().last_sequence()));
  identify("late", 2);
  EXPECT_THAT(error_of([&] { connect(prepared); }), HasSubstr("is held by the migration armed"));
  EXPECT_EQ(state_at(a), "frozen");
  identify("armed", 1);
  commit(token);
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
  EXPECT_TRUE(ends(root));
}

// The only copy is then the destination's: it must not be thrown away for one that is dead.
TEST_F(MigrationTest, an_armed_copy_that_dies_leaves_the_restored_one_to_run) {
  const pid_t root = run_workload();
  identify("armed");
  arm_all();
  kill_frozen(root);
  EXPECT_TRUE(becomes(DestinationPhase::resumed));
  EXPECT_EQ(source(), SourcePhase::lost);
  EXPECT_EQ(state_at(b), "running");
}

TEST_F(MigrationTest, a_frozen_copy_that_dies_is_not_armed_and_leaves_the_restored_one_to_run) {
  const pid_t root = run_workload();
  identify("frozen");
  const auto finished = prepare_all();
  kill_frozen(root);
  EXPECT_THAT(error_of([&] { arm(finished); }), HasSubstr("has died"));
  EXPECT_TRUE(becomes(DestinationPhase::resumed));
  EXPECT_EQ(source(), SourcePhase::lost);
  EXPECT_EQ(state_at(b), "running");
}

TEST_F(MigrationTest, a_frozen_copy_that_dies_before_the_destination_has_it_ends_the_attempt) {
  const pid_t root = run_workload();
  identify("early");
  connect_all();
  round(0);
  freeze();
  kill_frozen(root);
  EXPECT_EQ(abort().phase(), api::SOURCE_LOST);
  EXPECT_TRUE(becomes(DestinationPhase::refused));
  EXPECT_TRUE(pair.turn_until([&] { return state_at(b) == "none"; }));
  EXPECT_NE(state_at(a), "running");
}

TEST_F(MigrationTest, a_restored_copy_that_somebody_thawed_is_not_committed) {
  run_workload();
  identify("thawed");
  const std::string token = arm_all();
  workload::Cgroup::open(b.options.cgroup + "/thawed.1.dst")->request_thaw();
  EXPECT_THAT(error_of([&] { commit(token); }), HasSubstr("not there any more"));
  EXPECT_TRUE(becomes(SourcePhase::thawed));
  EXPECT_EQ(state_at(a), "running");
}

// Whoever hears of a refusal may let the other copy run: by then this one must be dead.
TEST_F(MigrationTest, a_restored_copy_that_somebody_thawed_is_dead_before_its_refusal_is_told) {
  run_workload();
  identify("running");
  a.refuse_after(std::chrono::milliseconds(600));
  arm_all();
  auto copy = workload::Cgroup::open(b.options.cgroup + "/running.1.dst");
  copy->request_thaw();
  bool both = false;
  EXPECT_TRUE(pair.turn_until([&] {
    both = both || (destination() == DestinationPhase::refused && copy->populated());
    return source() == SourcePhase::thawed;
  }));
  EXPECT_FALSE(both);
}

// It has done what it had to do: its other copy must not do it a second time.
TEST_F(MigrationTest, a_workload_that_exits_as_it_is_thawed_has_moved_and_ends_once) {
  const pid_t root = run_workload();
  identify("exit-thawed");
  const std::string token = arm_all();
  const ArmedFault slow("agent.destination.thawed=stop");
  const StandsUntilEmpty gone(b.options.cgroup + "/" + to_string(key_of(id, Side::destination)));
  commit(token);
  EXPECT_TRUE(becomes(SourcePhase::killed));
  EXPECT_TRUE(ends(root));
  EXPECT_TRUE(pair.turn_until([&] { return state_at(b) == "exited"; }));
  EXPECT_EQ(b.workloads().info("job").exit_code(), 3);
}

// The agent is held up between the thaw and the record, and the copy has ended when it looks again.
TEST_F(MigrationTest, a_workload_that_exits_before_its_thaw_is_recorded_has_moved_all_the_same) {
  b.options.limits.ask_interval = std::chrono::seconds(1);  // until it looks again
  pair.restart(b);
  const pid_t root = run_workload();
  identify("exit-thawed");
  const std::string token = arm_all();
  const ArmedFault held_up("agent.destination.thawed=fail");
  EXPECT_THAT(error_of([&] { commit(token); }), HasSubstr("fault injected"));
  EXPECT_EQ(destination(), DestinationPhase::committed);
  EXPECT_TRUE(becomes(DestinationPhase::resumed)) << name(destination());
  EXPECT_TRUE(becomes(SourcePhase::killed));
  EXPECT_TRUE(ends(root));
  EXPECT_TRUE(pair.turn_until([&] { return state_at(b) == "exited"; }));
}

TEST_F(MigrationTest, a_workload_that_crashes_as_it_is_thawed_goes_on_at_the_source) {
  const pid_t root = run_workload();
  identify("crash-thawed");
  const std::string token = arm_all();
  const ArmedFault slow("agent.destination.thawed=stop");
  const StandsUntilEmpty gone(b.options.cgroup + "/" + to_string(key_of(id, Side::destination)));
  EXPECT_THAT(error_of([&] { commit(token); }), HasSubstr("died as it was thawed"));
  expect_running_at_the_source_only(root);
  EXPECT_EQ(destination(), DestinationPhase::lost);
}

// A destination that has committed may die before its copy runs: then the source's is the only one.
TEST_F(MigrationTest, a_source_is_not_killed_on_committed) {
  b.options.limits.ask_interval = std::chrono::seconds(4);  // until the destination goes on by itself
  pair.restart(b);
  const pid_t root = run_workload();
  identify("committed");
  const std::string token = arm_all();
  const ArmedFault held_up("agent.destination.committed=fail");
  EXPECT_THAT(error_of([&] { commit(token); }), HasSubstr("fault injected"));
  EXPECT_EQ(destination(), DestinationPhase::committed);
  EXPECT_THAT(error_of([&] { kill_source(); }), HasSubstr("busy: the destination is committed, not resumed"));
  EXPECT_FALSE(pair.turn_until([&] { return source() != SourcePhase::armed; }, std::chrono::milliseconds(800)))
      << "it asks by itself as well";
  EXPECT_EQ(destination(), DestinationPhase::committed);
  EXPECT_EQ(::kill(root, 0), 0);
  EXPECT_TRUE(becomes(SourcePhase::killed));
  EXPECT_EQ(state_at(b), "running");
}

// Nobody drives either side any more, right after its record was reserved.
TEST_F(MigrationTest, a_side_that_hears_nothing_gives_up_by_itself) {
  run_workload();
  identify("idle");
  connect_all();
  a.agent->context().options.limits.idle = std::chrono::milliseconds(100);
  EXPECT_TRUE(becomes(SourcePhase::thawed));
  EXPECT_TRUE(becomes(DestinationPhase::refused));
  EXPECT_TRUE(b.agent->context().promised.empty());
  identify("unconnected", 2);
  EXPECT_TRUE(pair.turn_until([&] { return state_at(b) == "none"; }));
  prepare(survey());
  b.agent->context().options.limits.idle = std::chrono::milliseconds(100);
  EXPECT_TRUE(becomes(DestinationPhase::refused));
  EXPECT_TRUE(b.agent->context().promised.empty());
}

// By PID: what a process has forked lives in the cgroup that a migration has put it into, and moves with it.
TEST_F(MigrationTest, a_process_is_not_taken_out_of_a_copy_that_another_migration_moves) {
  workload::Child first = workload::spawn({.program = "/bin/sleep", .arguments = {"60"}});
  workload::Child second = workload::spawn({.program = "/bin/sleep", .arguments = {"60"}});
  const std::string home = workload::cgroup_of(first.pid, workload::cgroup2_mount());
  const auto connect_to_nobody = [&](pid_t pid) {
    ask(a, [&](api::Envelope& e) {
      *e.mutable_survey()->mutable_id() = id;
      e.mutable_survey()->set_pid(pid);
    });
    return error_of([&] {
      api::Prepared nobody;
      nobody.set_peer_address("127.0.0.1:1");
      connect(nobody);
    });
  };
  identify("one");
  EXPECT_THAT(connect_to_nobody(first.pid), HasSubstr("peer_lost"));
  auto copy = workload::Cgroup::open(a.options.cgroup + "/one.1.src");
  ASSERT_TRUE(copy);
  copy->add(second.pid);
  identify("two");
  EXPECT_THAT(connect_to_nobody(second.pid),
              HasSubstr(fmt::format("busy: process {} belongs to one.1.src", second.pid)));
  EXPECT_EQ(copy->pids().size(), 2u);
  abort();
  identify("one");
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  EXPECT_EQ(workload::cgroup_of(second.pid, workload::cgroup2_mount()), home);
  for (workload::Child* child : {&first, &second}) {
    workload::send_signal(child->pidfd.get(), SIGKILL);
    workload::wait_for_exit(child->pidfd.get(), std::chrono::seconds(5));
  }
}

TEST_F(MigrationTest, an_abort_before_the_freeze_costs_nothing) {
  const pid_t root = run_workload();
  identify("early");
  connect_all();
  round(0);
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  discard();
  expect_running_at_the_source_only(root);
  EXPECT_TRUE(b.agent->context().promised.empty());
  EXPECT_THAT(error_of([&] { freeze(); }), HasSubstr("cancelled"));
}

TEST_F(MigrationTest, an_abort_of_a_frozen_source_thaws_it) {
  const pid_t root = run_workload();
  identify("frozen");
  prepare_all();
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  expect_running_at_the_source_only(root);
  EXPECT_TRUE(b.agent->context().promised.empty());
}

TEST_F(MigrationTest, can_be_tried_again_with_a_newer_epoch_only) {
  run_workload();
  identify("first", 5);
  connect_all();
  abort();
  discard();
  EXPECT_TRUE(pair.turn_until([&] { return a.records().find({"first", 5, Side::source})->settled; }));
  identify("older", 4);
  EXPECT_EQ(survey().newer_epoch(), 5u);
  EXPECT_EQ(survey().engine(), "") << "nothing is looked at";
  EXPECT_THAT(error_of([&] { connect({}); }), HasSubstr("newer epoch"));
  identify("newer", 6);
  commit(arm_all());
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
}

// The source may never have heard of it: the workload was to come from elsewhere.
TEST_F(MigrationTest, is_told_by_the_destination_of_a_newer_epoch_as_well) {
  run_workload();
  Record newer;
  newer.key = {.migration = "newer", .epoch = 9, .side = Side::destination};
  newer.workload = "job";
  b.records().reserve(newer);
  b.records().enter(newer, DestinationPhase::refused);
  identify("older", 8);
  const api::Surveyed surveyed = survey();
  EXPECT_EQ(surveyed.newer_epoch(), 0u);
  const api::Prepared prepared = prepare(surveyed);
  EXPECT_EQ(prepared.newer_epoch(), 9u);
  EXPECT_EQ(prepared.token(), "");
  EXPECT_FALSE(b.records().find(key_of(id, Side::destination)));
  EXPECT_FALSE(a.agent->migrations().source(id)->over());
  const api::MigrationId passed_over = id;
  id.set_epoch(10);
  survey();
  EXPECT_TRUE(a.agent->migrations().source(passed_over)->over()) << "or it would be kept for ever";
  connect(prepare(survey()));
  round(0);
  commit(arm(finish(freeze().round().last_sequence())));
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
}

TEST_F(MigrationTest, goes_there_and_back) {
  run_workload();
  identify("there", 1);
  commit(arm_all());
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
  EXPECT_TRUE(pair.turn_until([&] { return b.records().find({"there", 1, Side::destination})->settled; }));
  std::swap(a.agent, b.agent);
  std::swap(a.io, b.io);
  std::swap(a.options, b.options);
  identify("back", 2);
  const auto surveyed = survey();
  api::Envelope e;
  api::Prepare& p = *e.mutable_prepare();
  *p.mutable_id() = id;
  p.set_source_node("b");
  p.set_survey(surveyed.engine());
  *p.mutable_workload() = surveyed.info();
  p.set_seed(42);
  const auto prepared = pair.ask(b, std::move(e)).prepared();
  ask(a, [&](api::Envelope& request) {
    api::Connect& c = *request.mutable_connect();
    *c.mutable_id() = id;
    c.set_destination_node("a");
    c.set_peer_address(prepared.peer_address());
    c.set_pages_address(prepared.pages_address());
    c.set_token(prepared.token());
    c.set_seed(42);
  });
  round(0);
  EXPECT_GT(freeze().round().last_sequence(), 0u);
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  EXPECT_EQ(state_at(a), "running");
}

class FailingStep : public MigrationTest, public testing::WithParamInterface<const char*> {};

TEST_P(FailingStep, leaves_the_workload_running_at_the_source) {
  const pid_t root = run_workload();
  identify(GetParam());
  EXPECT_NE(error_of([&] { arm_all(); }), "it succeeded");
  abort();
  discard();
  expect_running_at_the_source_only(root);
  EXPECT_TRUE(b.agent->context().promised.empty());
}

INSTANTIATE_TEST_SUITE_P(Engine, FailingStep,
                         testing::Values("fail-prepare", "fail-round", "die-round", "fail-freeze", "die-freeze",
                                         "fail-finish", "die-finish"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_F(MigrationTest, an_engine_that_dies_holding_the_frozen_copy_loses_nothing) {
  const pid_t root = run_workload();
  identify("die-frozen");
  EXPECT_NE(error_of([&] { arm_all(); }), "it succeeded");
  EXPECT_TRUE(becomes(SourcePhase::thawed));
  discard();
  expect_running_at_the_source_only(root);
  EXPECT_TRUE(b.agent->context().promised.empty());
}

TEST_F(MigrationTest, a_page_server_that_dies_ends_the_attempt_with_a_clear_error) {
  const pid_t root = run_workload();
  identify("pages");
  connect_all();
  round(0);
  ::kill(b.agent->context().pages->pid(), SIGKILL);
  EXPECT_TRUE(becomes(SourcePhase::thawed));
  EXPECT_THAT(error_of([&] { round(1); }), HasSubstr("page server"));
  expect_running_at_the_source_only(root);
  EXPECT_TRUE(b.agent->context().promised.empty());
  identify("next", 2);
  commit(arm_all());
}

}  // namespace
}  // namespace godwit::service
