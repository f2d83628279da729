// What an operator decides, what an operator is told, and what one agent tells another by way of the coordinator.
#include "coordinator/testing/cluster.h"
#include "coordinator/testing/in_doubt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace godwit::coordinator {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using Env = api::Envelope;

Errc code_of_resolve(Cluster& c, const std::string& id, Statement statement = Statement::destination_is_off) {
  try {
    net::run_to_end(c.io, c.daemon.driver.resolve(id, statement, "ann"));
  } catch (const Error& e) {
    return e.errc();
  }
  return Errc{};
}

TEST(Resolve, lets_an_armed_source_go_and_says_who_did) {
  Cluster c;
  const std::string id = cut_off_at_commit(c);
  c.until([&] { return !c.b.registered(); });
  EXPECT_EQ(code_of_resolve(c, id), Errc{});
  ASSERT_EQ(c.a.resolutions.size(), 1u);
  EXPECT_EQ(c.a.resolutions[0].by(), "ann");
  EXPECT_TRUE(c.a.resolutions[0].destination_is_off());
  EXPECT_EQ(c.a.resolutions[0].id().migration(), id);
  ASSERT_EQ(c.a.resolutions[0].registered_size(), 1);
  EXPECT_EQ(c.a.resolutions[0].registered(0).node(), "a");
  c.until([&] { return c.store.migration(id)->phase == Phase::rolled_back; });
  ASSERT_EQ(events(c, id, "resolve").size(), 1u);
  EXPECT_EQ(events(c, id, "resolve")[0]["by"], "ann");
  EXPECT_EQ(events(c, id, "resolve")[0]["off"], "b");
  EXPECT_EQ(code_of_resolve(c, id), Errc::not_found) << "it has ended";
  EXPECT_TRUE(c.a.runs("redis"));
}

// It looks for a node that is off, and has a copy to thaw: it may take longer than anybody waits for an answer.
TEST(Resolve, that_a_source_takes_too_long_for_counts_and_can_be_said_again) {
  Cluster c;
  const std::string id = cut_off_at_commit(c);
  c.until([&] { return !c.b.registered(); });
  c.a.once[Env::kResolve] = Fault::hang_after;
  try {
    net::run_to_end(c.io, c.daemon.driver.resolve(id, Statement::destination_is_off, "ann"));
    FAIL() << "it was answered";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::timed_out);
    EXPECT_THAT(e.message(), HasSubstr("node 'a' has not let it go on yet"));
    EXPECT_THAT(e.hint(), HasSubstr("can be said again"));
  }
  EXPECT_EQ(events(c, id, "resolve").size(), 1u) << "who has said it stands in the history";
  c.until([&] { return c.store.migration(id)->phase == Phase::rolled_back; });
  EXPECT_TRUE(c.a.runs("redis"));
}

// What the coordinator hears of the destination is for the source to judge.
TEST(Resolve, tells_the_source_what_the_destination_has_registered_with) {
  Cluster c;
  const std::string id = cut_off_at_commit(c);
  c.b.always.clear();
  c.b.always[Env::kQuery] = Fault::hang_before;
  c.b.always[Env::kDiscard] = Fault::hang_before;
  c.b.reconnects = true;
  c.b.start();
  c.until([&] { return c.b.registered(); });
  EXPECT_EQ(code_of_resolve(c, id), Errc::refused);
  ASSERT_EQ(c.a.resolutions.size(), 1u);
  ASSERT_EQ(c.a.resolutions[0].registered_size(), 2);
  const api::Registration& b = c.a.resolutions[0].registered(1);
  EXPECT_EQ(b.node(), "b");
  EXPECT_EQ(b.store_uuid(), "store-b");
  EXPECT_EQ(b.boot_id(), "boot-b");
  EXPECT_EQ(c.a.source, api::SOURCE_ARMED);
  EXPECT_THAT(events(c, id, "resolve"), IsEmpty());
}

// The source dies with its node before it is armed: nobody knows whether its copy runs, or has run on.
std::string source_gone_before_it_armed(Cluster& c) {
  c.a.always[Env::kArm] = Fault::break_before;
  c.a.reconnects = false;
  const std::string id = c.daemon.driver.start(c.to_b());
  EXPECT_EQ(c.finish(id).phase, Phase::undecided);
  EXPECT_EQ(c.b.destination, api::DESTINATION_PREPARED);
  c.until([&] { return !c.a.registered(); });
  return id;
}

TEST(Resolve, lets_a_prepared_copy_run_whose_source_is_off) {
  Cluster c;
  const std::string id = source_gone_before_it_armed(c);
  EXPECT_EQ(code_of_resolve(c, id, Statement::source_is_off), Errc{});
  ASSERT_EQ(c.b.resolutions.size(), 1u);
  EXPECT_TRUE(c.b.resolutions[0].source_is_off());
  EXPECT_EQ(c.b.resolutions[0].id().migration(), id);
  c.until([&] { return c.store.migration(id)->phase == Phase::done; });
  ASSERT_EQ(events(c, id, "resolve").size(), 1u);
  EXPECT_EQ(events(c, id, "resolve")[0]["off"], "a");
  EXPECT_EQ(events(c, id, "resolve")[0]["destination"], "resumed");
}

// As after a journal that was put back from a backup.
TEST(Resolve, lets_nothing_prepared_run_beside_a_third_node_that_has_the_workload) {
  Cluster c;
  const std::string id = source_gone_before_it_armed(c);
  FakeAgent third(c.io.get_executor(), "c", c.daemon.agents_address(), tls_of("agent/c"));
  third.workloads.push_back(c.a.workloads.front());
  third.start();
  c.until([&] { return c.daemon.registry.nodes().contains("c"); });
  EXPECT_EQ(code_of_resolve(c, id, Statement::source_is_off), Errc::refused);
  third.reconnects = false;
  third.stop();
  c.until([&] { return !c.daemon.registry.node("c").up; });
  EXPECT_EQ(code_of_resolve(c, id, Statement::source_is_off), Errc::refused) << "it is down for a moment only";
  EXPECT_EQ(c.b.destination, api::DESTINATION_PREPARED);
  EXPECT_TRUE(c.b.resolutions.empty());
}

TEST(Resolve, asks_the_node_itself_when_the_journal_knows_nothing) {
  Cluster c;
  c.b.reconnects = false;
  c.b.stop();
  c.until([&] { return !c.daemon.registry.node("b").up; });
  c.a.source = api::SOURCE_ARMED;
  const auto at = [&](const std::string& node) {
    net::run_to_end(c.io, c.daemon.driver.resolve_at(node, "redis", Statement::destination_is_off, "ann"));
  };
  at("a");
  ASSERT_EQ(c.a.resolutions.size(), 1u);
  EXPECT_EQ(c.a.resolutions[0].workload(), "redis");
  EXPECT_FALSE(c.a.resolutions[0].has_id());
  EXPECT_EQ(c.a.source, api::SOURCE_THAWED);
  EXPECT_THROW(at("b"), Error) << "it is not there";
}

TEST(Resolve, needs_a_migration_in_doubt_and_its_source) {
  Cluster c;
  EXPECT_EQ(code_of_resolve(c, "m0"), Errc::not_found);
  EXPECT_EQ(code_of_resolve(c, left_behind(c, Phase::precopy)), Errc::busy);
  c.store.enter("m1", Phase::undecided);
  c.a.stop();
  c.until([&] { return !c.daemon.registry.node("a").up; });
  EXPECT_EQ(code_of_resolve(c, "m1"), Errc::peer_lost);
}

TEST(Resolve, that_comes_after_the_decision_says_so) {
  Cluster c;
  const std::string id = cut_off_at_commit(c);
  c.a.source = api::SOURCE_LOST;
  c.until([&] { return !c.b.registered(); });
  EXPECT_EQ(code_of_resolve(c, id), Errc::refused);
  EXPECT_THAT(events(c, id, "resolve"), IsEmpty());
}

Errc code_of_start(Cluster& c, const MigrationSpec& spec) {
  try {
    c.daemon.driver.start(spec);
  } catch (const Error& e) {
    return e.errc();
  }
  return Errc{};
}

net::awaitable<void> look_at(AgentService& agents, std::string node) { co_await agents.refresh(node); }

net::awaitable<void> post(std::shared_ptr<net::Channel> channel, api::Envelope notice) {
  co_await channel->post(std::move(notice));
}

// Whatever name it goes by, and whoever restarts: there may be two copies to tell apart.
TEST(Undecided, keeps_the_next_migration_of_the_same_process_waiting) {
  Cluster c;
  MigrationSpec by_pid;
  by_pid.pid = 4711;
  by_pid.source = "a";
  by_pid.destination = "b";
  c.b.always[Env::kCommit] = Fault::break_before;
  c.b.reconnects = false;
  c.a.peer = nullptr;
  const std::string id = c.daemon.driver.start(by_pid);
  EXPECT_EQ(c.finish(id).phase, Phase::undecided);
  c.b.always.clear();
  c.b.always[Env::kQuery] = Fault::hang_before;
  c.b.reconnects = true;
  c.b.start();
  c.until([&] { return c.b.registered(); });
  MigrationSpec by_name = by_pid;
  by_name.pid = 0;
  by_name.workload = "by-pid";  // as the survey has called it
  EXPECT_EQ(code_of_start(c, by_pid), Errc::busy);
  EXPECT_EQ(code_of_start(c, by_name), Errc::busy);
  by_pid.pid = 4712;
  EXPECT_EQ(code_of_start(c, by_pid), Errc{}) << "another process is none of it";
}

TEST(Undecided, keeps_a_workload_waiting_that_is_named_by_its_pid) {
  Cluster c;
  c.a.workloads[0].set_pid(4711);
  net::run_to_end(c.io, look_at(c.daemon.agents, "a"));
  cut_off_at_commit(c);
  EXPECT_EQ(c.daemon.registry.nodes().at("a").workloads.at("redis").state(), "running");
  net::run_to_end(c.io, look_at(c.daemon.agents, "a"));
  EXPECT_EQ(c.daemon.registry.nodes().at("a").workloads.at("redis").state(), "frozen");
  c.b.reconnects = true;
  c.b.always.clear();
  c.b.always[Env::kQuery] = Fault::hang_before;
  c.b.start();
  c.until([&] { return c.b.registered(); });
  MigrationSpec by_pid;
  by_pid.pid = 4711;
  by_pid.source = "a";
  by_pid.destination = "b";
  EXPECT_EQ(code_of_start(c, by_pid), Errc::busy);
}

TEST(Alarm, of_two_copies_becomes_the_reason_of_the_migration) {
  Cluster c;
  const std::string id = cut_off_at_commit(c);
  c.until([&] { return !c.b.registered(); });
  EXPECT_EQ(code_of_resolve(c, id), Errc{});
  c.until([&] { return c.store.migration(id)->phase == Phase::rolled_back; });
  api::Envelope notice;
  notice.mutable_alarm()->mutable_id()->set_migration(id);
  *notice.mutable_alarm()->mutable_failure() =
      net::to_failure(Error(Errc::already_exists, "two copies of 'redis' run", "end one of them"));
  for (int i = 0; i < 2; i++) net::run_to_end(c.io, post(c.a.channel(), notice));
  c.until([&] { return !events(c, id, "alarm").empty(); });
  net::run_to_end(c.io, post(c.a.channel(), notice));
  api::Envelope unknown = notice;
  unknown.mutable_alarm()->mutable_id()->set_migration("m0");
  net::run_to_end(c.io, post(c.a.channel(), unknown));
  net::run_to_end(c.io, look_at(c.daemon.agents, "a"));  // its answer comes behind all that
  const Migration m = c.store.migration(id).value();
  EXPECT_EQ(m.reason->code, Errc::already_exists);
  EXPECT_EQ(m.reason->message, "two copies of 'redis' run");
  EXPECT_EQ(m.reason->hint, "end one of them");
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_EQ(events(c, id, "alarm").size(), 1u);
}

net::awaitable<void> ask_to_relay(std::shared_ptr<net::Channel> channel, std::string to, api::Envelope* answer) {
  api::Envelope request;
  request.mutable_relay()->set_to_node(to);
  request.mutable_relay()->set_envelope("words");
  request.mutable_relay()->set_mac("mac");
  *answer = co_await channel->ask(std::move(request), std::chrono::seconds(5));
}

Errc code_of_relay(Cluster& c, const std::string& to, api::Envelope* answer) {
  try {
    net::run_to_end(c.io, ask_to_relay(c.a.channel(), to, answer));
  } catch (const Error& e) {
    return e.errc();
  }
  return Errc{};
}

TEST(Relay, passes_the_words_of_one_agent_to_another_and_its_answer_back) {
  Cluster c;
  api::Envelope answer;
  EXPECT_EQ(code_of_relay(c, "b", &answer), Errc{});
  EXPECT_EQ(answer.relay().envelope(), "words");
  EXPECT_EQ(answer.relay().mac(), "mac");
  EXPECT_EQ(std::ranges::count(c.b.asked, Env::kRelay), 1);
  EXPECT_EQ(code_of_relay(c, "a", &answer), Errc::invalid_argument);
  EXPECT_EQ(code_of_relay(c, "nowhere", &answer), Errc::not_found);
  c.b.always[Env::kRelay] = Fault::wrong_answer;
  EXPECT_EQ(code_of_relay(c, "b", &answer), Errc::protocol);
  c.b.always[Env::kRelay] = Fault::refuse;
  c.b.refusal = Errc::denied;
  EXPECT_EQ(code_of_relay(c, "b", &answer), Errc::denied);
  c.b.stop();
  c.until([&] { return !c.daemon.registry.node("b").up; });
  EXPECT_EQ(code_of_relay(c, "b", &answer), Errc::peer_lost);
}

}  // namespace
}  // namespace godwit::coordinator
