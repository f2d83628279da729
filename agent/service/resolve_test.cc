// An armed source whose destination never comes back: an operator decides, and is held to what can be seen.
#include "agent/service/test_resolve.h"
#include "common/base/waiting.h"
#include "tests/support/synced_disk.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>

namespace godwit::service {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST_F(ResolveTest, lets_the_copy_go_and_keeps_who_said_so) {
  const pid_t root = run_workload();
  identify("off");
  arm_all();
  power_off(b);
  EXPECT_EQ(resolve().phase(), api::SOURCE_THAWED);
  EXPECT_EQ(resolve().phase(), api::SOURCE_THAWED) << "said again, it is answered alike";
  EXPECT_EQ(state_at(a), "running");
  EXPECT_EQ(::kill(root, 0), 0);
  EXPECT_TRUE(a.records().find(source_key())->resolved);
  EXPECT_THAT(read_file(a.options.state + "/resolutions"),
              HasSubstr("off.1.src of 'job' let go here by ann, who states that node 'b'"));
  pair.restart(a);
  EXPECT_TRUE(a.records().find(source_key())->resolved);
  EXPECT_EQ(state_at(a), "running");
}

TEST_F(ResolveTest, has_on_the_disk_who_stated_it_before_the_copy_is_let_go) {
  run_workload();
  identify("disk");
  arm_all();
  power_off(b);
  const test::SyncedDisk disk(a.options.state);
  resolve();
  ASSERT_GE(disk.synced().size(), 4u);
  EXPECT_THAT(std::vector(disk.synced().begin(), disk.synced().begin() + 4),
              testing::ElementsAre("resolutions.new", ".", "records", "records"))
      << "the statement and its file's name, aborted, thawed";
}

TEST_F(ResolveTest, is_followed_by_a_refusal_when_the_destination_returns) {
  run_workload();
  identify("prepared");
  arm_all();
  power_off(b);
  resolve();
  boot(b);
  EXPECT_EQ(destination(), DestinationPhase::refused);
  EXPECT_TRUE(both_settle());
  EXPECT_TRUE(alarms.empty());
}

TEST_F(ResolveTest, is_followed_by_lost_when_the_destination_had_committed) {
  run_workload();
  identify("committed");
  arm_all();
  enter_at_destination(DestinationPhase::committed);
  power_off(b);
  resolve();
  boot(b);
  EXPECT_EQ(destination(), DestinationPhase::lost);
  EXPECT_TRUE(both_settle());
  EXPECT_TRUE(alarms.empty());
}

TEST_F(ResolveTest, is_followed_by_nothing_when_the_destination_had_resumed_what_died_with_it) {
  run_workload();
  identify("resumed");
  commit(arm_all());
  power_off(b);
  resolve();
  boot(b);
  EXPECT_EQ(destination(), DestinationPhase::resumed);
  EXPECT_TRUE(both_settle());
  EXPECT_TRUE(alarms.empty());
  EXPECT_EQ(state_at(a), "running");
}

TEST_F(ResolveTest, raises_the_alarm_until_one_of_two_copies_has_gone) {
  run_workload();
  identify("wrong");
  commit(arm_all());
  b.drop();  // its agent only: the operator is wrong
  resolve();
  boot(b, {});
  EXPECT_TRUE(pair.turn_until([&] { return alarms.size() > 1; }));
  EXPECT_THAT(alarms.at(0), HasSubstr("already_exists: two copies of 'job' run: here on node 'a'"));
  EXPECT_EQ(state_at(a), "running");
  EXPECT_EQ(state_at(b), "running") << "no program may choose between them";
  EXPECT_FALSE(a.records().find(source_key())->settled);
  b.workloads().kill("job", SIGKILL);
  EXPECT_TRUE(both_settle());
  EXPECT_EQ(state_at(a), "running");
}

TEST_F(ResolveTest, ends_the_alarm_when_the_copy_at_the_source_is_the_one_to_go) {
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, run_workload(), 0)));
  identify("wrong");
  commit(arm_all());
  b.drop();
  resolve();
  boot(b, {});
  EXPECT_TRUE(pair.turn_until([&] { return !alarms.empty(); }));
  a.workloads().kill("job", SIGKILL);
  wait_ready(pidfd.get(), POLLIN, Clock::now() + 10s, "wait for its end");  // until then there are two
  testing::internal::CaptureStderr();                                       // the log
  EXPECT_TRUE(pair.turn_until([&] { return a.records().find(source_key())->settled; }));
  EXPECT_THAT(testing::internal::GetCapturedStderr(), Not(HasSubstr("two_copies"))) << "neither agent says so any more";
  EXPECT_TRUE(pair.turn_until([&] { return state_at(a) == "exited"; })) << state_at(a);
  const std::size_t told = alarms.size();
  pair.turn_until([] { return false; }, 500ms);
  EXPECT_EQ(alarms.size(), told);
  EXPECT_EQ(state_at(b), "running");
}

// Of files of this process the first page can be written: the line about who has decided, and no record.
struct NoRecords {
  NoRecords() {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before);
    rlimit small = before;
    small.rlim_cur = 4096;
    ::setrlimit(RLIMIT_FSIZE, &small);
  }
  ~NoRecords() { ::setrlimit(RLIMIT_FSIZE, &before); }
  NoRecords(const NoRecords&) = delete;
  NoRecords& operator=(const NoRecords&) = delete;
  rlimit before{};
};

TEST_F(ResolveTest, that_could_not_be_recorded_is_done_when_it_is_asked_for_again) {
  const pid_t root = run_workload();
  identify("full");
  arm_all();
  power_off(b);
  {
    const NoRecords full;
    EXPECT_THAT(why_not(), HasSubstr("recording full.1.src failed"));
    EXPECT_EQ(living_copy(a.agent->context(), *a.records().all().begin())->frozen(), true);
  }
  EXPECT_EQ(source(), SourcePhase::armed) << "as nobody knew what is on the disk, nothing was done";
  EXPECT_EQ(resolve().phase(), api::SOURCE_THAWED);
  EXPECT_EQ(state_at(a), "running");
  EXPECT_EQ(::kill(root, 0), 0);
}

TEST_F(ResolveTest, that_could_not_be_recorded_is_no_reason_that_a_later_end_has) {
  run_workload();
  identify("late");
  arm_all();
  power_off(b);
  {
    const NoRecords full;
    EXPECT_THAT(why_not(), HasSubstr("recording late.1.src failed"));
  }
  boot(b);
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED) << "the destination has refused";
  EXPECT_FALSE(a.records().find(source_key())->resolved);
}

TEST_F(ResolveTest, that_cannot_be_written_down_changes_nothing) {
  run_workload();
  identify("unnamed");
  arm_all();
  power_off(b);
  const std::string file = a.options.state + "/resolutions";
  std::filesystem::create_directory(file);
  EXPECT_THAT(why_not(), HasSubstr(file));
  EXPECT_EQ(source(), SourcePhase::armed);
  std::filesystem::remove(file);
  EXPECT_EQ(resolve().phase(), api::SOURCE_THAWED);
  EXPECT_THAT(read_file(file), HasSubstr("unnamed.1.src of 'job' let go here by ann"));
}

// A record file that was made anew refuses whatever it is asked to: that says nothing of the copy that it has
// forgotten.
TEST_F(ResolveTest, is_what_it_takes_when_the_destinations_records_were_replaced) {
  run_workload();
  identify("replaced");
  arm_all();
  b.drop();
  std::filesystem::remove(b.options.state + "/records");
  boot(b, {});
  a.refuse_after(600ms);
  pair.restart(a);  // which does not wait for an operator
  EXPECT_TRUE(becomes(DestinationPhase::refused)) << "it was asked for a refusal";
  pair.turn_until([] { return false; }, 500ms);
  EXPECT_EQ(source(), SourcePhase::armed);
}

// It is wrong here as well, but nothing has run there: the destination refuses, as it would have.
TEST_F(ResolveTest, of_a_node_that_was_only_cut_off_before_it_committed_costs_nothing) {
  const pid_t root = run_workload();
  identify("cut");
  const std::string token = arm_all();
  b.drop();
  resolve();
  boot(b, {});
  EXPECT_TRUE(becomes(DestinationPhase::refused));
  EXPECT_THAT(error_of([&] { commit(token); }), HasSubstr("refused"));
  EXPECT_TRUE(alarms.empty());
  expect_running_at_the_source_only(root);
}

TEST_F(ResolveTest, is_refused_while_the_destination_answers) {
  run_workload();
  identify("on");
  const std::string token = arm_all();
  EXPECT_THAT(why_not(), HasSubstr("refused: node 'b' is not off: its agent answers"));
  EXPECT_EQ(source(), SourcePhase::armed);
  EXPECT_NE(::access((a.options.state + "/resolutions").c_str(), F_OK), 0);
  commit(token);
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
  EXPECT_THAT(why_not(), HasSubstr("refused: the source is killed, not armed"));
}

TEST_F(ResolveTest, is_refused_while_the_coordinator_hears_the_destination) {
  run_workload();
  identify("registered");
  arm_all();
  const std::string store = b.records().store_uuid(), at = b.agent->context().facts.boot_id;
  power_off(b);
  const auto registered = [&](const std::string& with_store, const std::string& with_boot) {
    return why_not([&](api::Resolve& r) {
      api::Registration& there = *r.add_registered();
      there.set_node("b");
      there.set_store_uuid(with_store);
      there.set_boot_id(with_boot);
    });
  };
  EXPECT_THAT(registered(store, at), HasSubstr("its agent answers"));
  EXPECT_THAT(registered(store, "of another boot"), HasSubstr("its agent answers")) << "its record decides";
  EXPECT_THAT(registered("another", at), HasSubstr("has not been rebooted"));
  EXPECT_EQ(source(), SourcePhase::armed);
  EXPECT_EQ(registered("another", "of another boot"), "it succeeded");
}

TEST_F(ResolveTest, with_new_records_at_the_destination_needs_a_new_boot_as_well) {
  run_workload();
  identify("forgotten");
  arm_all();
  power_off(b);
  std::filesystem::remove(b.options.state + "/records");
  boot(b, {});
  EXPECT_THAT(why_not(), HasSubstr("records of node 'b' were replaced, and it has not been rebooted"));
  EXPECT_EQ(source(), SourcePhase::armed);
  b.drop();
  boot(b);
  EXPECT_EQ(resolve().phase(), api::SOURCE_THAWED);
  EXPECT_EQ(state_at(a), "running");
}

TEST_F(ResolveTest, needs_an_armed_source_a_statement_and_a_name) {
  run_workload();
  identify("early");
  const api::Finished finished = prepare_all();
  EXPECT_THAT(why_not(), HasSubstr("refused: the source is frozen, not armed"));
  arm(finished);
  power_off(b);
  EXPECT_THAT(why_not([](api::Resolve& r) { r.set_destination_is_off(false); }), HasSubstr("invalid_argument: nobody"));
  for (const std::string& by : {std::string(), std::string("ann\nbob"), std::string(65, 'x')})
    EXPECT_THAT(why_not([&](api::Resolve& r) { r.set_by(by); }),
                HasSubstr("invalid_argument: a migration is resolved"));
  EXPECT_EQ(source(), SourcePhase::armed);
}

TEST_F(ResolveTest, of_a_copy_that_has_died_says_that_it_is_lost) {
  const pid_t root = run_workload();
  identify("dead");
  arm_all();
  power_off(b);
  kill_frozen(root);
  EXPECT_EQ(resolve().phase(), api::SOURCE_LOST);
}

// Where a coordinator has lost its journal, nobody knows the migration's id.
TEST_F(ResolveTest, finds_by_the_workload_what_is_unfinished) {
  run_workload();
  identify("nameless");
  arm_all();
  const auto of = [](const std::string& workload) {
    return [workload](api::Resolve& r) {
      r.clear_id();
      r.set_workload(workload);
    };
  };
  EXPECT_THAT(why_not(of("job")), HasSubstr("not off: its agent answers"));
  power_off(b);
  EXPECT_THAT(why_not(of("another")), HasSubstr("not_found: no migration of 'another' from node 'a' is undecided"));
  EXPECT_EQ(resolve(of("job")).phase(), api::SOURCE_THAWED);
  EXPECT_EQ(state_at(a), "running");
  EXPECT_THAT(why_not(of("job")), HasSubstr("not_found")) << "it is over";
}

}  // namespace
}  // namespace godwit::service
