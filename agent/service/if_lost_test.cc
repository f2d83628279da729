// The destination's copy is lost after it may have run: whether the source's goes on by itself (`if_lost`), or is held
// until an operator has looked.
#include "agent/service/test_fault.h"
#include "agent/service/test_migration.h"

#include <sys/stat.h>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class IfLostTest : public MigrationTest {
 protected:
  void SetUp() override {
    MigrationTest::SetUp();
    b.options.listen = b.agent->context().peer_address;  // it comes back where it was
  }

  // Armed at the source; the workload may write that file.
  std::string arm_with(api::IfLost choice, const std::string& file = {}) {
    api::Surveyed surveyed = survey();
    if (!file.empty()) {
      engine::Surveyed seen;
      seen.ParseFromString(surveyed.engine());
      engine::NeededFile& needed = *seen.add_files();
      needed.set_path(file);
      needed.set_mode(S_IFREG | 0644);
      needed.set_writable(true);
      surveyed.set_engine(seen.SerializeAsString());
    }
    connect(prepare(surveyed, [&](api::Prepare& p) { p.mutable_options()->set_if_lost(choice); }));
    round(0);
    return arm(finish(freeze().round().last_sequence()));
  }
  void lose_as_it_is_thawed(const std::string& token) {
    const ArmedFault slow("agent.destination.thawed=stop");
    const StandsUntilEmpty dead(b.options.cgroup + "/" + to_string(destination_key()));
    EXPECT_THAT(error_of([&] { commit(token); }), HasSubstr("died as it was thawed"));
    EXPECT_EQ(destination(), DestinationPhase::lost);
  }
  api::SourceState resolve(bool off, bool go_on) {
    return ask(a,
               [&](api::Envelope& e) {
                 api::Resolve& r = *e.mutable_resolve();
                 *r.mutable_id() = id;
                 r.set_by("ann");
                 r.set_destination_is_off(off);
                 r.set_go_on(go_on);
               })
        .source_state();
  }
  api::SourceState go_on() { return resolve(false, true); }
  void expect_held() {
    EXPECT_FALSE(pair.turn_until([&] { return source() != SourcePhase::armed; }, 1s)) << name(source());
    EXPECT_EQ(state_at(a), "frozen");
  }
  void die_at_committed() {
    auto copy = workload::Cgroup::open(b.options.cgroup + "/" + to_string(destination_key()));
    copy->kill();
    copy->wait_empty(5s);
  }
  Key source_key() const { return key_of(id, Side::source); }
  Key destination_key() const { return key_of(id, Side::destination); }
  std::string shared_file() const {
    std::string path = b.options.shared.at(0) + "/data";
    open_file(path, O_WRONLY | O_CREAT, 0644);
    return path;
  }
};

TEST_F(IfLostTest, holds_what_may_write_shared_files_until_an_operator_lets_it_go_on) {
  const pid_t root = run_workload();
  identify("crash-thawed");
  lose_as_it_is_thawed(arm_with(api::IF_LOST_UNSAID, shared_file()));
  expect_held();
  EXPECT_EQ(abort().phase(), api::SOURCE_ARMED) << "a coordinator cannot decide it";
  pair.restart(a);
  expect_held();
  pair.restart(b);
  expect_held();
  EXPECT_EQ(go_on().phase(), api::SOURCE_THAWED);
  EXPECT_EQ(go_on().phase(), api::SOURCE_THAWED) << "said again, it is answered alike";
  expect_running_at_the_source_only(root);
  EXPECT_TRUE(a.records().find(source_key())->resolved);
  EXPECT_THAT(read_file(a.options.state + "/resolutions"),
              HasSubstr("crash-thawed.1.src of 'job' let go here by ann, who knows that its copy on node 'b'"));
  EXPECT_TRUE(pair.turn_until(
      [&] { return a.records().find(source_key())->settled && b.records().find(destination_key())->settled; }));
}

TEST_F(IfLostTest, lets_what_may_not_write_shared_files_go_on) {
  const pid_t root = run_workload();
  identify("crash-thawed");
  const std::string log = b.workloads().log_path("job");  // this node's own
  lose_as_it_is_thawed(arm_with(api::IF_LOST_UNSAID, log));
  expect_running_at_the_source_only(root);
}

TEST_F(IfLostTest, goes_by_what_was_asked_for) {
  const pid_t root = run_workload();
  identify("crash-thawed", 1);
  lose_as_it_is_thawed(arm_with(api::IF_LOST_THAW, shared_file()));
  expect_running_at_the_source_only(root);
  EXPECT_TRUE(pair.turn_until([&] { return a.records().find(source_key())->settled; }));
  identify("crash-thawed", 2);
  lose_as_it_is_thawed(arm_with(api::IF_LOST_HOLD));
  expect_held();
}

TEST_F(IfLostTest, lets_it_go_on_when_the_other_one_has_not_run) {
  b.options.limits.ask_interval = 2s;  // until the destination goes on by itself
  pair.restart(b);
  const pid_t root = run_workload();
  identify("committed");
  const std::string token = arm_with(api::IF_LOST_HOLD);
  const ArmedFault held_up("agent.destination.committed=fail");
  EXPECT_THAT(error_of([&] { commit(token); }), HasSubstr("fault injected"));
  die_at_committed();
  EXPECT_TRUE(becomes(DestinationPhase::lost));
  expect_running_at_the_source_only(root);
}

// Between the record and the thaw, or after it: nobody can tell.
TEST_F(IfLostTest, takes_a_copy_that_is_gone_after_a_restart_for_one_that_has_run) {
  run_workload();
  identify("restarted");
  arm_with(api::IF_LOST_HOLD);
  b.records().enter(Record(*b.records().find(destination_key())), DestinationPhase::committed);
  die_at_committed();
  pair.restart(b);
  EXPECT_EQ(destination(), DestinationPhase::lost);
  expect_held();
}

TEST_F(IfLostTest, does_not_need_the_destination_again_once_the_loss_was_told) {
  const pid_t root = run_workload();
  identify("crash-thawed");
  lose_as_it_is_thawed(arm_with(api::IF_LOST_HOLD));
  expect_held();
  b.drop();
  EXPECT_EQ(go_on().phase(), api::SOURCE_THAWED);
  EXPECT_EQ(state_at(a), "running");
  EXPECT_EQ(::kill(root, 0), 0);
}

TEST_F(IfLostTest, is_not_decided_by_an_operator_while_nothing_was_lost) {
  run_workload();
  identify("early");
  a.agent->context().options.limits.ask_after = 60s;
  const std::string token = arm_with(api::IF_LOST_HOLD);
  EXPECT_THAT(error_of([&] { go_on(); }),
              HasSubstr("refused: the copy is not held for a loss: the destination is prep"));
  EXPECT_THAT(error_of([&] { resolve(true, true); }), HasSubstr("invalid_argument"));
  EXPECT_THAT(error_of([&] { resolve(false, false); }), HasSubstr("invalid_argument: nobody states"));
  EXPECT_EQ(source(), SourcePhase::armed);
  commit(token);
  EXPECT_EQ(go_on().phase(), api::SOURCE_KILLED) << "asked for, it has heard of the other end";
}

TEST_F(IfLostTest, is_no_node_that_is_off) {
  run_workload();
  identify("crash-thawed");
  lose_as_it_is_thawed(arm_with(api::IF_LOST_HOLD));
  expect_held();
  EXPECT_THAT(error_of([&] { resolve(true, false); }), HasSubstr("refused: node 'b' is not off: its agent answers"));
  expect_held();
}

}  // namespace
}  // namespace godwit::service
