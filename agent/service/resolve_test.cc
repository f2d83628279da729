// An armed source whose destination never comes back: an operator decides, and is held to what can be seen.
#include "agent/service/test_middleman.h"
#include "agent/service/test_migration.h"
#include "tests/support/synced_disk.h"

#include <sys/resource.h>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class ResolveTest : public MigrationTest {
 protected:
  // Nobody but the operator decides within a test.
  void SetUp() override {
    MigrationTest::SetUp();
    a.agent->context().options.limits.ask_after = a.agent->context().options.limits.refuse_after = 60s;
    b.agent->context().options.limits.refuse_after = 60s;
    a.agent->context().tell_coordinator = [this](api::Envelope e) {
      if (e.has_alarm()) alarms.push_back(e.alarm().failure().code() + ": " + e.alarm().failure().message());
    };
    b.options.listen = b.agent->context().peer_address;  // it comes back where it was
  }
  void TearDown() override {
    if (a.agent) a.agent->context().tell_coordinator = [](api::Envelope) {};
  }

  api::SourceState resolve(const std::function<void(api::Resolve&)>& change = [](api::Resolve&) {}) {
    return ask(a,
               [&](api::Envelope& e) {
                 api::Resolve& r = *e.mutable_resolve();
                 *r.mutable_id() = id;
                 r.set_by("ann");
                 r.set_destination_is_off(true);
                 change(r);
               })
        .source_state();
  }
  std::string why_not(const std::function<void(api::Resolve&)>& change = [](api::Resolve&) {}) {
    return error_of([&] { resolve(change); });
  }

  void power_off(TestNode& node) {
    if (auto copy = workload::Cgroup::open(node.options.cgroup + "/" + to_string(destination_key()))) {
      copy->kill();
      copy->wait_empty(5s);
    }
    node.drop();
  }
  void boot(TestNode& node, const std::string& boot_id = "of another boot") {
    node.renew();
    if (!boot_id.empty()) node.agent->context().facts.boot_id = boot_id;
    pair.start(node);
  }
  void enter_at_destination(DestinationPhase phase) {
    b.records().enter(Record(*b.records().find(destination_key())), phase);
  }
  Key source_key() const { return key_of(id, Side::source); }
  Key destination_key() const { return key_of(id, Side::destination); }
  bool both_settle() {
    return pair.turn_until(
        [&] { return a.records().find(source_key())->settled && b.records().find(destination_key())->settled; });
  }

  std::vector<std::string> alarms;
};

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
  run_workload();
  identify("wrong");
  commit(arm_all());
  b.drop();
  resolve();
  boot(b, {});
  EXPECT_TRUE(pair.turn_until([&] { return !alarms.empty(); }));
  a.workloads().kill("job", SIGKILL);
  EXPECT_TRUE(pair.turn_until([&] { return a.records().find(source_key())->settled; }));
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

// The other way round: what the destination has prepared is the last copy.
class SourceOffTest : public ResolveTest {
 protected:
  api::DestinationState take_over(const std::function<void(api::Resolve&)>& change = [](api::Resolve&) {}) {
    return ask(b,
               [&](api::Envelope& e) {
                 api::Resolve& r = *e.mutable_resolve();
                 *r.mutable_id() = id;
                 r.set_by("ann");
                 r.set_source_is_off(true);
                 change(r);
               })
        .destination_state();
  }
  std::string why_no_take_over(const std::function<void(api::Resolve&)>& change = [](api::Resolve&) {}) {
    return error_of([&] { take_over(change); });
  }
  void source_goes_off() {
    kill_copy_at_source();
    a.drop();
  }
  void kill_copy_at_source() {
    if (auto copy =
            workload::Cgroup::open(a.options.cgroup + "/" + a.agent->context().workloads->find("job")->cgroup())) {
      copy->kill();
      copy->wait_empty(5s);
    }
  }
};

TEST_F(SourceOffTest, lets_what_is_prepared_run_and_keeps_who_said_so) {
  run_workload();
  identify("off");
  arm_all();
  source_goes_off();
  EXPECT_EQ(take_over().phase(), api::DESTINATION_RESUMED);
  EXPECT_EQ(take_over().phase(), api::DESTINATION_RESUMED) << "said again, it is answered alike";
  EXPECT_EQ(state_at(b), "running");
  EXPECT_TRUE(b.records().find(destination_key())->resolved);
  EXPECT_THAT(read_file(b.options.state + "/resolutions"),
              HasSubstr("off.1.dst of 'job' let go here by ann, who states that node 'a'"));
  boot(a);
  EXPECT_EQ(a.records().find(source_key())->source(), SourcePhase::lost);
  EXPECT_TRUE(both_settle());
  EXPECT_TRUE(alarms.empty());
  pair.restart(b);
  EXPECT_EQ(state_at(b), "running");
}

// Nothing tells the destination that the connection is as dead as the node.
TEST_F(SourceOffTest, needs_no_end_of_the_connection) {
  run_workload();
  identify("silent");
  Middleman between(pair, b, {});
  api::Prepared prepared = prepare(survey());
  prepared.set_peer_address(between.address());
  connect(prepared);
  round(0);
  arm(finish(freeze().round().last_sequence()));
  b.agent->context().options.limits.question = 200ms;
  between.fall_silent();
  kill_copy_at_source();
  EXPECT_EQ(take_over().phase(), api::DESTINATION_RESUMED);
  between.fall_silent(false);  // and ends, while there is somebody who runs it
  pair.turn_until([] { return false; }, 200ms);
}

TEST_F(SourceOffTest, has_on_the_disk_who_stated_it_before_the_copy_runs) {
  run_workload();
  identify("disk");
  arm_all();
  source_goes_off();
  const test::SyncedDisk disk(b.options.state);
  take_over();
  ASSERT_GE(disk.synced().size(), 4u);
  EXPECT_THAT(std::vector(disk.synced().begin(), disk.synced().begin() + 4),
              testing::ElementsAre("resolutions.new", ".", "records", "records"))
      << "the statement and its file's name, committed, resumed";
}

// It was not off, and had not been armed: it lets its copy go when its agent is back, and both run.
TEST_F(SourceOffTest, of_a_source_that_lives_and_was_not_armed_raises_an_alarm) {
  const pid_t root = run_workload();
  identify("wrong");
  prepare_all();
  a.drop();  // its agent only
  EXPECT_EQ(take_over().phase(), api::DESTINATION_RESUMED);
  a.renew();
  a.agent->context().tell_coordinator = [this](api::Envelope e) {
    if (e.has_alarm()) alarms.push_back(e.alarm().failure().code() + ": " + e.alarm().failure().message());
  };
  pair.start(a);
  EXPECT_TRUE(pair.turn_until([&] { return !alarms.empty(); }));
  ASSERT_FALSE(alarms.empty());
  EXPECT_THAT(alarms.front(), HasSubstr("already_exists: two copies of 'job' run: here on node 'a' and on node 'b'"));
  EXPECT_EQ(::kill(root, 0), 0) << "no program chooses";
  EXPECT_EQ(state_at(b), "running");
}

TEST_F(SourceOffTest, holds_after_a_restart_of_the_destination) {
  run_workload();
  identify("restarted");
  arm_all();
  source_goes_off();
  pair.restart(b);
  EXPECT_EQ(take_over().phase(), api::DESTINATION_RESUMED);
  EXPECT_EQ(state_at(b), "running");
}

TEST_F(SourceOffTest, is_refused_while_the_source_answers_or_is_registered) {
  run_workload();
  identify("on");
  arm_all();
  EXPECT_THAT(why_no_take_over(), HasSubstr("refused: node 'a' is not off: its agent answers"));
  EXPECT_EQ(destination(), DestinationPhase::prepared);
  EXPECT_NE(::access((b.options.state + "/resolutions").c_str(), F_OK), 0);
  const std::string store = a.records().store_uuid(), at = a.agent->context().facts.boot_id;
  source_goes_off();
  const auto registered = [&](const std::string& with_store, const std::string& with_boot) {
    return why_no_take_over([&](api::Resolve& r) {
      api::Registration& there = *r.add_registered();
      there.set_node("a");
      there.set_store_uuid(with_store);
      there.set_boot_id(with_boot);
    });
  };
  EXPECT_THAT(registered(store, "of another boot"), HasSubstr("its agent answers")) << "its record decides";
  EXPECT_THAT(registered("another", at), HasSubstr("has not been rebooted"));
  EXPECT_EQ(destination(), DestinationPhase::prepared);
  EXPECT_EQ(registered("another", "of another boot"), "it succeeded");
}

TEST_F(SourceOffTest, needs_a_copy_that_is_prepared_and_a_word) {
  run_workload();
  identify("early");
  EXPECT_THAT(why_no_take_over(), HasSubstr("not_found"));
  const std::string token = arm_all();
  EXPECT_THAT(why_no_take_over([](api::Resolve& r) { r.set_go_on(true); }), HasSubstr("one is decided"));
  EXPECT_THAT(why_no_take_over([](api::Resolve& r) { r.clear_by(); }), HasSubstr("invalid_argument"));
  commit(token);
  EXPECT_THAT(why_no_take_over(), HasSubstr("refused: the destination is resumed, not prepared"));
}

// Only an unarmed source goes on by itself. An armed one finds that the other copy has resumed.
TEST_F(SourceOffTest, does_no_harm_when_the_source_was_armed_and_lives) {
  const pid_t root = run_workload();
  identify("wrong");
  arm_all();
  a.drop();  // its agent only
  EXPECT_EQ(take_over().phase(), api::DESTINATION_RESUMED);
  a.renew();
  pair.start(a);
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
  EXPECT_TRUE(ends(root));
  EXPECT_TRUE(alarms.empty());
}

}  // namespace
}  // namespace godwit::service
