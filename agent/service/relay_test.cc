// The two sides cannot reach each other, and both reach the coordinator: it carries their words, and cannot change
// them.
#include "agent/service/relay.h"
#include "agent/service/test_migration.h"

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

// What carries the words. It outlives the test, whose agents go on for a moment.
struct Carrier {
  int relayed = 0;
  std::optional<Error> failure;  // instead of an answer
  std::function<void(api::Relay&)> change_request, change_answer;
};

net::awaitable<void> answer_into(Agent& agent, api::Envelope request,
                                 std::shared_ptr<std::optional<api::Envelope>> answer) {
  *answer = co_await answer_coordinator(agent.context(), agent.migrations(), std::move(request));
}

net::awaitable<api::Envelope> pass_on(std::shared_ptr<Carrier> carrier, TestNode& to, api::Envelope request) {
  carrier->relayed++;
  if (carrier->failure) throw *carrier->failure;
  if (carrier->change_request) carrier->change_request(*request.mutable_relay());
  const auto answer = std::make_shared<std::optional<api::Envelope>>();
  const auto problem = std::make_shared<std::exception_ptr>();
  net::spawn(to.io->get_executor(), answer_into(*to.agent, std::move(request), answer),
             [problem](std::exception_ptr p) { *problem = p; });
  while (!*answer && !*problem) co_await net::sleep_for(1ms);
  if (*problem) std::rethrow_exception(*problem);
  if (carrier->change_answer) carrier->change_answer(*(*answer)->mutable_relay());
  co_return **answer;
}

net::awaitable<api::Envelope> nobody(api::Envelope) { fail(Errc::peer_lost, "there is no coordinator"); }

class RelayTest : public MigrationTest {
 protected:
  void SetUp() override {
    MigrationTest::SetUp();
    know_each_other();
  }
  void TearDown() override {
    for (TestNode* node : {&a, &b}) node->agent->context().ask_coordinator = nobody;
    *carrier = {};
  }
  void ask_for_a_refusal() { a.refuse_after(0s); }
  // What a coordinator does with a Relay: each node's request goes to the other one.
  void know_each_other() {
    join(a, b);
    join(b, a);
  }
  void join(TestNode& from, TestNode& to) const {
    from.agent->context().ask_coordinator = [carrier = carrier, &to](api::Envelope e) {
      return pass_on(carrier, to, std::move(e));
    };
  }
  // The destination's agent comes back at another address, which the source does not know.
  void cut() {
    pair.restart(b);
    know_each_other();
  }
  std::string resolve() {
    return error_of([&] {
      ask(a, [&](api::Envelope& e) {
        *e.mutable_resolve()->mutable_id() = id;
        e.mutable_resolve()->set_by("ann");
        e.mutable_resolve()->set_destination_is_off(true);
      });
    });
  }
  bool both_settle() {
    return pair.turn_until([&] {
      return a.records().find(key_of(id, Side::source))->settled &&
             b.records().find(key_of(id, Side::destination))->settled;
    });
  }

  std::shared_ptr<Carrier> carrier = std::make_shared<Carrier>();
};

TEST_F(RelayTest, is_not_needed_while_the_two_reach_each_other) {
  run_workload();
  identify("direct");
  commit(arm_all());
  EXPECT_TRUE(becomes(SourcePhase::killed));
  EXPECT_TRUE(both_settle());
  EXPECT_EQ(carrier->relayed, 0);
}

TEST_F(RelayTest, lets_an_armed_source_go_that_nobody_commits) {
  const pid_t root = run_workload();
  identify("nobody");
  const std::string token = arm_all();
  cut();
  EXPECT_EQ(destination(), DestinationPhase::prepared);
  ask_for_a_refusal();
  expect_running_at_the_source_only(root);
  EXPECT_EQ(destination(), DestinationPhase::refused);
  EXPECT_THAT(error_of([&] { commit(token); }), HasSubstr("refused"));
  EXPECT_TRUE(both_settle());
}

TEST_F(RelayTest, ends_the_source_copy_of_what_has_resumed) {
  const pid_t root = run_workload();
  identify("resumed");
  const std::string token = arm_all();
  cut();
  commit(token);
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
  EXPECT_TRUE(ends(root));
  EXPECT_EQ(state_at(b), "running");
  EXPECT_TRUE(both_settle());
}

TEST_F(RelayTest, works_after_a_restart_of_either_side) {
  run_workload();
  identify("restarted");
  a.agent->context().options.limits.ask_after = 60s;
  commit(arm_all());
  cut();
  pair.restart(a);
  know_each_other();
  EXPECT_TRUE(becomes(SourcePhase::killed));
  EXPECT_TRUE(both_settle());
}

TEST_F(RelayTest, lets_a_prepared_destination_hear_that_the_source_has_thawed) {
  const pid_t root = run_workload();
  identify("thawed");
  prepare_all();
  cut();
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  EXPECT_TRUE(becomes(DestinationPhase::refused));
  expect_running_at_the_source_only(root);
}

TEST_F(RelayTest, lets_a_prepared_destination_ask) {
  run_workload();
  identify("asks");
  prepare_all();
  // The source's agent does not tell; the destination's word for it is "refuse_after".
  b.refuse_after(600ms);
  a.agent->context().ask_coordinator = nobody;
  pair.restart(b);
  join(b, a);
  abort();
  EXPECT_TRUE(becomes(DestinationPhase::refused));
}

// Whatever a coordinator makes of the words, an armed source stays armed and a prepared destination prepared.
TEST_F(RelayTest, believes_nothing_that_was_changed_on_the_way) {
  run_workload();
  identify("forged");
  arm_all();
  cut();
  carrier->change_answer = [](api::Relay& relay) {
    api::Envelope said;
    said.ParseFromString(relay.envelope());
    said.mutable_destination_state()->set_phase(api::DESTINATION_REFUSED);
    relay.set_envelope(said.SerializeAsString());
  };
  EXPECT_TRUE(pair.turn_until([&] { return carrier->relayed > 3; }));
  EXPECT_EQ(source(), SourcePhase::armed);
  carrier->change_answer = {};
  carrier->change_request = [](api::Relay& relay) {  // of a question a demand
    api::Envelope said;
    said.mutable_refuse();
    relay.set_envelope(said.SerializeAsString());
  };
  EXPECT_TRUE(pair.turn_until([&] { return carrier->relayed > 8; }));
  EXPECT_EQ(source(), SourcePhase::armed);
  EXPECT_EQ(destination(), DestinationPhase::prepared);
}

// It has lost the secret of its hello with them: whatever it says of a migration that it knows nothing of, the copy
// that was prepared stays.
TEST_F(RelayTest, believes_nothing_of_a_source_whose_records_are_new) {
  run_workload();
  identify("forgotten");
  prepare_all();
  b.refuse_after(600ms);
  a.drop();
  std::filesystem::remove(a.options.state + "/records");
  a.renew();
  pair.start(a);
  know_each_other();
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED) << "a tombstone";
  EXPECT_TRUE(pair.turn_until([&] { return carrier->relayed > 1; })) << "the destination asks";
  EXPECT_THAT(error_of([&] { discard(); }), "it succeeded");
  EXPECT_EQ(destination(), DestinationPhase::prepared);
}

// A coordinator keeps the answer to one question, and gives it to the next: what was so then says nothing of now.
TEST_F(RelayTest, believes_no_answer_to_another_question) {
  run_workload();
  identify("old");
  arm_all();
  std::optional<api::Relay> old;
  carrier->change_answer = [&](api::Relay& relay) { relay = old.emplace(old.value_or(relay)); };
  cut();
  EXPECT_TRUE(pair.turn_until([&] { return old.has_value(); }));
  ask_for_a_refusal();
  EXPECT_TRUE(pair.turn_until([&] { return carrier->relayed > 3; }));
  EXPECT_EQ(destination(), DestinationPhase::refused) << "which the source cannot hear";
  EXPECT_EQ(source(), SourcePhase::armed);
  carrier->change_answer = {};
  EXPECT_TRUE(becomes(SourcePhase::thawed));
}

// Nor an old one to the same question: no two questions are the same.
TEST_F(RelayTest, believes_no_old_answer_to_the_same_question) {
  run_workload();
  identify("replayed");
  const std::string token = arm_all();
  std::optional<api::Relay> old;
  carrier->change_answer = [&](api::Relay& relay) { relay = old.emplace(old.value_or(relay)); };
  cut();
  EXPECT_TRUE(pair.turn_until([&] { return old.has_value(); })) << "the destination was prepared then";
  commit(token);
  EXPECT_THAT(error_of([&] { kill_source(); }), HasSubstr("denied: by way of the coordinator"));
  carrier->change_answer = {};
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
}

// A node that says anything at all, by whatever way, is not off.
TEST_F(RelayTest, an_answer_of_any_kind_keeps_an_operator_from_resolving) {
  run_workload();
  identify("answers");
  arm_all();
  cut();
  EXPECT_THAT(resolve(), HasSubstr("refused: node 'b' is not off: its agent answers"));
  carrier->change_answer = [](api::Relay& relay) { relay.mutable_envelope()->push_back(' '); };
  EXPECT_THAT(resolve(), HasSubstr("denied"));
  carrier->change_answer = {};
  for (const Errc said : {Errc::denied, Errc::protocol, Errc::internal, Errc::busy, Errc::no_space, Errc::refused}) {
    carrier->failure = Error(said, "something is wrong here");
    EXPECT_THAT(resolve(), HasSubstr("something is wrong here")) << name(said);
    EXPECT_EQ(source(), SourcePhase::armed) << name(said);
  }
  carrier->failure = Error(Errc::peer_lost, "node 'b' is not connected");
  EXPECT_EQ(resolve(), "it succeeded") << "nobody hears anything of it";
}

net::awaitable<api::Envelope> hears_nothing_of_its_engine() {
  fail(Errc::timed_out, "the engine does not answer");
  co_return api::Envelope{};
}
net::awaitable<api::Envelope> fails_there(TokenBytes key, api::Envelope request) {
  auto answering = hears_nothing_of_its_engine();
  return answer_relayed(key, request.relay(), std::move(answering));
}
net::awaitable<void> ask_once(Context& context, TokenBytes key, RelayRoute route) {
  co_await ask_by_relay(context, key, std::move(route), {});
}

TEST_F(RelayTest, what_fails_at_the_other_side_is_an_answer_and_no_silence) {
  const TokenBytes key = sha256("key");
  a.agent->context().ask_coordinator = [key](api::Envelope e) { return fails_there(key, std::move(e)); };
  RelayRoute route{.key = {"m1", 1, Side::source}, .to_source = false, .to_node = "b"};
  EXPECT_EQ(error_of([&] { pair.run(a, ask_once(a.agent->context(), key, route)); }),
            "refused: the engine does not answer");
}

TEST(Relay, needs_the_key_of_the_migration) {
  const TokenBytes key = sha256("key");
  api::Relay question;
  question.mutable_id()->set_migration("m1");
  question.mutable_id()->set_epoch(3);
  api::Envelope said;
  said.mutable_query()->mutable_id()->set_migration("m1");
  const api::Relay sealed = relayed_answer(key, question, said).relay();
  const auto denied = [](const TokenBytes& with, const api::Relay& relay) {
    try {
      open_relayed(with, relay);
    } catch (const Error& e) {
      return e.errc() == Errc::denied;
    }
    return false;
  };
  EXPECT_FALSE(denied(key, sealed)) << "an answer to nothing has the form of a question";
  EXPECT_TRUE(denied(sha256("another"), sealed));
  EXPECT_TRUE(denied({}, sealed));
  const std::vector<std::function<void(api::Relay&)>> changes{
      [](api::Relay& r) { r.mutable_id()->set_migration("m2"); },
      [](api::Relay& r) { r.mutable_id()->set_epoch(4); },
      [](api::Relay& r) { r.set_to_source(!r.to_source()); },
      [](api::Relay& r) { r.mutable_envelope()->push_back(' '); },
      [](api::Relay& r) { r.set_nonce("another"); },
      [](api::Relay& r) { r.mutable_mac()->pop_back(); }};
  for (const auto& change : changes) {
    api::Relay other = sealed;
    change(other);
    EXPECT_TRUE(denied(key, other)) << other.DebugString();
  }
  EXPECT_TRUE(denied(key, relayed_answer(key, sealed, said).relay())) << "an answer is no question";
}

TEST_F(RelayTest, of_an_id_that_nobody_knows_is_denied) {
  identify("unknown");
  for (const bool to_source : {false, true}) {
    api::Envelope e;
    api::Envelope said;
    to_source ? static_cast<void>(said.mutable_query_source()) : static_cast<void>(said.mutable_refuse());
    api::Relay question;
    *question.mutable_id() = id;
    question.set_to_source(!to_source);
    *e.mutable_relay() = relayed_answer(TokenBytes{}, question, said).relay();
    EXPECT_THAT(error_of([&] { pair.ask(to_source ? a : b, std::move(e)); }),
                HasSubstr("denied: nothing can be relayed"));
  }
  EXPECT_EQ(destination(), DestinationPhase::none);
}

}  // namespace
}  // namespace godwit::service
