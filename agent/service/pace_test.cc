// A slow path: a round or a pause takes what it takes as long as something moves, and is given up when nothing does.
#include "agent/service/test_migration.h"

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr auto stall = 1500ms;

class PaceTest : public MigrationTest {
 protected:
  static constexpr std::uint64_t a_round =
      100 * 64 * 1024;                          // of the fake engine, when it is large: the ring holds less
  static constexpr std::uint64_t frames = 101;  // of it

  void SetUp() override {
    MigrationTest::SetUp();
    root = run_workload();
  }
  // From now on: programs may start as slowly as they like.
  void be_impatient() {
    for (TestNode* node : {&a, &b}) {
      Limits& limits = node->agent->context().options.limits;
      limits.undo = limits.round = limits.freeze = limits.stored = limits.finish = limits.unarmed = stall;
    }
  }
  Limits& limits() { return a.agent->context().options.limits; }
  void send_at(std::uint64_t bytes_per_second) {
    ask(a, [&](api::Envelope& e) {
      *e.mutable_set_rate()->mutable_id() = id;
      e.mutable_set_rate()->set_rate_limit(bytes_per_second);
    });
  }
  void stop_page_server() { ::kill(b.agent->context().pages->pid(), SIGSTOP); }
  void continue_page_server() { ::kill(b.agent->context().pages->pid(), SIGCONT); }
  static net::awaitable<void> answered(Agent& agent, api::Envelope request) {
    co_await answer_coordinator(agent.context(), agent.migrations(), std::move(request));
  }
  template <class Call>
  static Clock::duration time_of(Call&& call) {
    const auto begin = Clock::now();
    call();
    return Clock::now() - begin;
  }

  pid_t root = 0;
};

TEST_F(PaceTest, a_round_takes_as_long_as_its_pages_take) {
  identify("large");
  connect_all();
  be_impatient();
  limits().idle = stall;
  send_at(a_round / 6);
  EXPECT_GT(time_of([&] { round(0); }), 3 * stall);
  EXPECT_EQ(source(), SourcePhase::none);
}

TEST_F(PaceTest, a_pause_takes_as_long_as_its_pages_take) {
  identify("large");
  connect_all();
  be_impatient();
  round(0);
  send_at(a_round / 6);
  api::Frozen frozen;
  EXPECT_GT(time_of([&] { frozen = freeze(); }), 3 * stall);
  commit(arm(finish(frozen.round().last_sequence())));
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
}

// Else the copy would be filled while the workload stands still.
TEST_F(PaceTest, a_freeze_waits_until_what_was_sent_is_in_the_copy) {
  identify("slow-absorb");
  connect_all();
  round(0);
  commit(arm(finish(freeze().round().last_sequence())));
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
}

// A rate limit below a frame in such a time holds them back: nothing is stored meanwhile, and nothing is wrong.
TEST_F(PaceTest, what_a_rate_limit_holds_back_is_under_way) {
  identify("small");
  connect_all();
  be_impatient();
  round(0);
  send_at(64 * 1024 / 3);
  api::Envelope request;
  *request.mutable_freeze()->mutable_id() = id;
  request.mutable_freeze()->set_number(1);
  net::spawn(a.io->get_executor(), "test.freeze", answered(*a.agent, std::move(request)));
  EXPECT_FALSE(pair.turn_until([&] { return source() == SourcePhase::thawed; }, 4 * stall));
  send_at(0);
  commit(arm(finish(freeze().round().last_sequence())));
}

TEST_F(PaceTest, a_destination_waits_for_pages_as_long_as_they_come) {
  identify("large");
  connect_all();
  be_impatient();
  round(0);
  send_at(a_round / 6);
  api::Envelope request;
  *request.mutable_freeze()->mutable_id() = id;
  request.mutable_freeze()->set_number(1);
  net::spawn(a.io->get_executor(), "test.freeze", answered(*a.agent, std::move(request)));
  api::Finished finished;
  EXPECT_GT(time_of([&] { finished = finish(2 * frames); }), 3 * stall);
  commit(arm(finished));
}

TEST_F(PaceTest, a_restore_takes_as_long_as_it_proceeds) {
  identify("slow-finish");
  connect_all();
  be_impatient();
  round(0);
  const auto frozen = freeze();
  api::Finished finished;
  EXPECT_GT(time_of([&] { finished = finish(frozen.round().last_sequence()); }), 2 * stall);
  EXPECT_EQ(state_at(a), "frozen");
  commit(arm(finished));
}

TEST_F(PaceTest, a_round_of_which_nothing_is_stored_is_given_up) {
  identify("small");
  connect_all();
  be_impatient();
  stop_page_server();
  EXPECT_THAT(error_of([&] { round(0); }), HasSubstr("timed_out: the destination has stored frame 0 of 21"));
  continue_page_server();
  EXPECT_EQ(state_at(a), "running");
}

TEST_F(PaceTest, a_pause_in_which_nothing_is_stored_is_given_up) {
  identify("small");
  connect_all();
  be_impatient();
  limits().unarmed = 60s;
  round(0);
  stop_page_server();
  EXPECT_THAT(error_of([&] { freeze(); }), HasSubstr("timed_out: the destination has stored frame"));
  continue_page_server();
  expect_running_at_the_source_only(root);
}

// Of the last pages, which the fake engine does not wait for, or the state behind them.
TEST_F(PaceTest, a_pause_that_may_be_so_long_ends_then) {
  identify("small");
  connect_all();
  limits().unarmed = 60s;
  round(0);
  stop_page_server();
  const auto took = time_of([&] {
    EXPECT_THAT(error_of([&] { freeze(1, 1u << 30, 1000); }),
                HasSubstr("refused: the destination has stored frame 21 of 42 when the pause is as long as it may be"));
  });
  EXPECT_GE(took, 1s);
  continue_page_server();
  expect_running_at_the_source_only(root);
}

TEST_F(PaceTest, an_engine_that_sends_nothing_is_given_up) {
  identify("hang-round");
  connect_all();
  be_impatient();
  EXPECT_THAT(error_of([&] { round(0); }), HasSubstr("timed_out: the engine did not round within 1.5 s"));
}

// The coordinator is there, and asks for lists of workloads: that is not this migration.
TEST_F(PaceTest, a_frozen_copy_that_nobody_asks_for_anything_goes_on) {
  identify("forgotten");
  prepare_all();
  be_impatient();
  EXPECT_EQ(state_at(a), "frozen");
  EXPECT_TRUE(becomes(SourcePhase::thawed));
  expect_running_at_the_source_only(root);
}

}  // namespace
}  // namespace godwit::service
