// A prepared destination whose source never comes back: what it has prepared is the last copy, and an operator decides.
#include "agent/service/test_middleman.h"
#include "agent/service/test_resolve.h"
#include "tests/support/synced_disk.h"

namespace godwit::service {
namespace {

using testing::HasSubstr;

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
