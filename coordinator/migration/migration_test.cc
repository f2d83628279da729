// Whole migrations between two fake agents over real TLS, undisturbed and with a fault at every step. Whatever happens,
// exactly one copy may be alive, and the coordinator says which, or that it does not know.
#include "coordinator/migration/json.h"
#include "coordinator/testing/in_doubt.h"
#include "coordinator/testing/one_copy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <SQLiteCpp/SQLiteCpp.h>

#include <algorithm>

namespace godwit::coordinator {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Body = FakeAgent::Body;
using Env = api::Envelope;

net::awaitable<void> look_at(AgentService& agents, std::string node) { co_await agents.refresh(node); }

TEST(Migration, walks_through_all_steps_in_order_and_reports_what_was_measured) {
  Cluster c;
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_THAT(without_lists(c.a.asked), ElementsAre(Env::kSurvey, Env::kConnect, Env::kRound, Env::kRound, Env::kFreeze,
                                                    Env::kArm, Env::kKillSource));
  EXPECT_THAT(without_lists(c.b.asked), ElementsAre(Env::kPrepare, Env::kFinish, Env::kCommit));
  ASSERT_EQ(m.rounds.size(), 3u);
  EXPECT_TRUE(m.rounds.back().final);
  EXPECT_EQ(m.downtime_ns, 40'000'000);
  EXPECT_GT(m.predicted_downtime_ns, 0);
  EXPECT_EQ(m.epoch, 4u) << "above that of the running copy, run.3";
  std::int64_t sum = 0;
  for (const StepRecord& s : m.steps) sum += s.nanoseconds;
  EXPECT_EQ(sum, m.downtime_ns);
  EXPECT_FALSE(m.reason);
  EXPECT_EQ(c.daemon.registry.find("redis").node, "b");
  expect_one_copy_as_told(c, m);
}

net::awaitable<void> proceed(const FakeAgent& agent, std::string id, Clock::duration time) {
  for (const auto end = Clock::now() + time; Clock::now() < end;) {
    api::Envelope notice;
    notice.mutable_progress()->mutable_id()->set_migration(id);
    notice.mutable_progress()->set_phase("absorbing");
    co_await agent.channel()->post(std::move(notice));
    co_await net::sleep_for(std::chrono::milliseconds(100));
  }
}

// More to send, or less to send it with, than was foretold.
TEST(Migration, takes_a_pause_that_takes_what_it_takes) {
  Cluster c;
  c.a.once[Env::kFreeze] = Fault::late;
  c.a.late_by = std::chrono::seconds(4);
  const std::string id = c.daemon.driver.start(c.to_b());
  c.until([&] { return std::ranges::count(c.a.asked, Env::kFreeze) > 0; });
  net::spawn(c.io.get_executor(), "test.proceed", proceed(c.b, id, c.a.late_by));
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
}

TEST(Migration, is_under_way_until_its_end_is_in_the_journal) {
  char directory[] = "/tmp/godwit-journal-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  const std::string path = std::string(directory) + "/journal.db";
  {
    Cluster c(short_limits(), path);
    SQLite::Database beside(path, SQLite::OPEN_READWRITE);
    beside.exec("CREATE TRIGGER full BEFORE UPDATE OF outcome ON migrations BEGIN SELECT RAISE(FAIL, 'full'); END");
    const std::string id = c.daemon.driver.start(c.to_b());
    c.until([&] { return c.a.source == api::SOURCE_KILLED; });
    EXPECT_THROW(c.until([&] { return !c.daemon.driver.find(id); }, std::chrono::milliseconds(500)), Error);
    EXPECT_FALSE(c.store.migration(id)->outcome);
    beside.exec("DROP TRIGGER full");
    expect_one_copy_as_told(c, c.finish(id));
    EXPECT_EQ(c.store.events(id, 0).back().kind, "outcome");
  }
  std::filesystem::remove_all(directory);
}

TEST(Migration, learns_the_overhead_of_a_pause_from_the_last_one) {
  Cluster c;
  c.migrate();
  c.a.destination = api::DESTINATION_NONE;
  c.b.source = api::SOURCE_NONE;
  MigrationSpec back;
  back.workload = "redis";
  back.destination = "a";
  const Migration m = c.finish(c.daemon.driver.start(back));
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_EQ(m.spec.source, "b");
  // 40 ms were measured; the first prediction was made without knowing that.
  EXPECT_NEAR(static_cast<double>(m.predicted_downtime_ns), 40e6, 1e6);
}

TEST(Migration, foretells_the_usual_pause_and_decides_by_the_least) {
  Cluster c;
  for (const int ms : {60, 200, 100}) {
    Migration past{.id = fmt::format("past-{}", ms), .epoch = 1, .spec = c.to_b(), .phase = Phase::done};
    past.outcome = Outcome::done;
    past.created_unix_ms = ms;
    past.downtime_ns = ms * 1'000'000;
    c.store.add(past);
    c.store.add_round(past.id, {.final = true});
    c.store.finish(past);
  }
  MigrationSpec spec = c.to_b();
  spec.policy.downtime = std::chrono::milliseconds(50);
  const Migration refused = c.finish(c.daemon.driver.start(spec));
  EXPECT_EQ(refused.outcome, Outcome::refused);
  EXPECT_THAT(refused.reason->message, HasSubstr("a pause takes 60 ms"));
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_NEAR(static_cast<double>(m.predicted_downtime_ns), 100e6, 2e6);
}

TEST(Migration, foretells_the_pages_of_a_pause_by_the_last_one_between_the_same_nodes) {
  // Rounds of 100 MB at 1 GB/s, and all of it dirty again after each; a pause went four times as fast.
  const auto predicted_s = [](const std::string& source, const std::string& destination) {
    Cluster c;
    c.a.dirty_after = {100'000'000};
    Migration past{.id = "past", .epoch = 1, .spec = c.to_b(), .phase = Phase::done};
    past.spec.source = source;
    past.spec.destination = destination;
    past.outcome = Outcome::done;
    past.downtime_ns = 25'000'000;
    c.store.add(past);
    c.store.add_round(past.id, {.number = 1, .bytes = 100'000'000, .seconds = 0.1});
    c.store.add_round(past.id, {.number = 2, .bytes = 100'000'000, .seconds = 0.025, .final = true});
    c.store.finish(past);
    MigrationSpec spec = c.to_b();
    spec.policy.on_no_progress = OnNoProgress::force;
    const Migration m = c.finish(c.daemon.driver.start(spec));
    EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
    return static_cast<double>(m.predicted_downtime_ns) / 1e9;
  };
  const double elsewhere = predicted_s("b", "c");
  EXPECT_NEAR(elsewhere, 0.1, 0.02);
  EXPECT_NEAR(predicted_s("b", "a"), elsewhere - 0.075, 0.01);
  EXPECT_NEAR(predicted_s("a", "b"), elsewhere - 0.075, 0.01);
}

TEST(Migration, takes_the_pid_of_a_known_workload_for_its_name) {
  Cluster c;
  c.a.workloads[0].set_pid(4711);
  net::run_to_end(c.io, look_at(c.daemon.agents, "a"));
  MigrationSpec spec;
  spec.pid = 4711;
  spec.source = "a";
  spec.destination = "b";
  const Migration m = c.finish(c.daemon.driver.start(spec));
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_EQ(m.spec.workload, "redis");
  EXPECT_EQ(m.epoch, 4u);
}

TEST(Migration, names_a_foreign_process_as_the_survey_does) {
  Cluster c;
  MigrationSpec spec;
  spec.pid = 4711;
  spec.source = "a";
  spec.destination = "b";
  const Migration m = c.finish(c.daemon.driver.start(spec));
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_EQ(m.spec.workload, "by-pid");
  EXPECT_EQ(c.daemon.registry.find("by-pid").node, "b");
}

// The journal was lost, and with it the epochs of attempts that came to nothing: the running copy bears none of them.
TEST(Migration, goes_on_under_a_higher_epoch_where_an_agent_has_seen_a_newer_one) {
  Cluster c;
  c.a.highest_epoch = 7;
  c.b.highest_epoch = 9;
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_EQ(m.epoch, 10u);
  EXPECT_THAT(c.a.epochs, ElementsAre(4, 8, 10, 10)) << "surveyed three times, and connected";
  EXPECT_THAT(c.b.epochs, ElementsAre(8, 10, 10)) << "prepared twice, and committed";
  EXPECT_EQ(c.store.highest_epoch("redis"), 10u);
  expect_one_copy_as_told(c, m);
}

TEST(Migration, does_not_run_after_an_agent_that_has_always_seen_a_newer_epoch) {
  for (const std::uint64_t seen : {std::uint64_t{7}, ~std::uint64_t{0}}) {
    Cluster c;
    c.a.highest_epoch = seen;
    c.a.on_request = [&c](Body body) {
      if (body == Env::kSurvey && c.a.highest_epoch < 1000) c.a.highest_epoch += 2;
    };
    const Migration m = c.migrate();
    EXPECT_EQ(m.outcome, Outcome::rolled_back);
    EXPECT_EQ(m.reason->code, Errc::protocol);
    EXPECT_LT(without_lists(c.a.asked).size(), 10u);
    EXPECT_TRUE(alive_at_source(c));
  }
}

TEST(Migration, reports_what_the_destination_wants_known) {
  Cluster c;
  c.b.notices = {"the network stays open"};
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_THAT(m.notices, ElementsAre("the network stays open"));
  EXPECT_EQ(to_json(m)["notices"][0], "the network stays open");
  EXPECT_EQ(c.store.events(m.id, 0).back().body["notices"].size(), 1u) << "with the outcome, to whoever waits for it";
}

TEST(Migration, is_refused_by_a_survey_that_names_what_cannot_be_carried) {
  Cluster c;
  c.a.survey_refusals = {"fd 7: a raw socket", "an established TCP connection"};
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::refused);
  EXPECT_THAT(m.reason->message, HasSubstr("fd 7: a raw socket; an established"));
  EXPECT_EQ(without_lists(c.b.asked).size(), 0u) << "the destination never hears of it";
  EXPECT_THAT(without_lists(c.a.asked), ElementsAre(Env::kSurvey, Env::kAbort));
}

TEST(Migration, gives_up_when_the_workload_writes_too_fast) {
  Cluster c;
  c.a.dirty_after = {900'000'000};
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_THAT(m.reason->message, HasSubstr("the budget cannot be met"));
  EXPECT_THAT(m.reason->hint, HasSubstr("a budget of "));
  EXPECT_EQ(std::ranges::count(c.a.asked, Env::kFreeze), 0);
  expect_one_copy_as_told(c, m);
}

TEST(Migration, is_refused_before_anything_is_asked_when_the_pause_alone_is_over_the_budget) {
  Cluster c;
  MigrationSpec spec = c.to_b();
  spec.policy.downtime = std::chrono::milliseconds(10);
  const Migration m = c.finish(c.daemon.driver.start(spec));
  EXPECT_EQ(m.outcome, Outcome::refused);
  EXPECT_EQ(m.reason->code, Errc::refused);
  EXPECT_THAT(m.reason->message, HasSubstr("a pause takes 20 ms without any page, the budget is 10 ms"));
  EXPECT_THAT(m.reason->hint, HasSubstr("a budget of 30 ms could be met"));
  EXPECT_EQ(std::ranges::count(c.a.asked, Env::kSurvey), 0);
  EXPECT_TRUE(without_lists(c.b.asked).empty());
  expect_one_copy_as_told(c, m);
}

TEST(Migration, ignores_duplicate_replies_and_stray_notices) {
  Cluster c;
  c.a.says_everything_twice = c.b.says_everything_twice = true;
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
}

TEST(Migration, reports_an_unknown_outcome_as_unknown_and_learns_it_when_the_node_returns) {
  Cluster c;
  c.b.always[Env::kCommit] = Fault::break_after;
  c.b.reconnects = false;
  c.a.peer = nullptr;  // the source cannot reach the destination either
  const std::string id = c.daemon.driver.start(c.to_b());
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::unknown);
  EXPECT_EQ(m.phase, Phase::undecided);
  EXPECT_TRUE(m.reason);
  EXPECT_THROW(c.daemon.driver.start(c.to_b()), Error) << "the next attempt has to wait for the outcome of this one";

  c.b.reconnects = true;
  c.b.start();
  c.until([&] { return c.store.migration(id)->phase == Phase::done; });
  EXPECT_EQ(c.store.migration(id)->outcome, Outcome::done);
  expect_one_copy_as_told(c, *c.store.migration(id));
}

TEST(Migration, asks_again_by_itself_when_the_outcome_is_unknown) {
  Limits limits = short_limits();
  limits.again = std::chrono::milliseconds(100);
  Cluster c(limits);
  c.b.always[Env::kCommit] = Fault::hang_after;
  c.b.always[Env::kQuery] = Fault::hang_before;
  c.a.peer = nullptr;
  const std::string id = c.daemon.driver.start(c.to_b());
  EXPECT_EQ(c.finish(id).phase, Phase::undecided);
  c.b.always.clear();  // the connections have never ended
  c.until([&] { return c.store.migration(id)->phase == Phase::done; });
  expect_one_copy_as_told(c, *c.store.migration(id));
}

TEST(Migration, does_not_take_the_silence_of_a_new_store_for_proof) {
  Cluster c;
  c.a.always[Env::kArm] = Fault::break_after;
  const std::string id = c.daemon.driver.start(c.to_b());
  c.until([&] { return c.a.source == api::SOURCE_ARMED; });
  c.a.peer = nullptr;
  c.a.source = api::SOURCE_NONE;
  c.a.store_uuid = "another";
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::unknown);
}

TEST(Migration, rolls_back_when_the_coordinator_is_asked_to_stop_before_the_freeze) {
  Cluster c;
  c.a.always[Env::kRound] = Fault::hang_before;
  const std::string id = c.daemon.driver.start(c.to_b());
  c.until([&] { return std::ranges::count(c.a.asked, Env::kRound) > 0; });
  net::run_to_end(c.io, c.daemon.driver.stop(std::chrono::seconds(5)));
  const Migration m = c.store.migration(id).value();
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_EQ(m.reason->code, Errc::cancelled);
  EXPECT_THROW(c.daemon.driver.start(c.to_b()), Error);
}

TEST(Migration, that_a_restart_interrupted_is_rolled_back_or_followed_to_its_end) {
  for (const Phase at : {Phase::precopy, Phase::freezing, Phase::finishing, Phase::arming, Phase::committing,
                         Phase::killing, Phase::rolling_back, Phase::asking}) {
    Cluster c;
    Migration m{.id = "m1", .epoch = 1};
    m.spec = c.to_b();
    m.spec.source = "a";
    c.store.add(m);
    c.store.enter("m1", at);
    // The records as they may be then; a killing that is journaled means that the destination had resumed.
    c.a.source = at < Phase::freezing     ? api::SOURCE_NONE
                 : at < Phase::committing ? api::SOURCE_FROZEN
                                          : api::SOURCE_ARMED;
    c.b.destination = at == Phase::killing ? api::DESTINATION_RESUMED
                      : at < Phase::arming ? api::DESTINATION_BUILDING
                                           : api::DESTINATION_PREPARED;
    if (at == Phase::rolling_back) c.a.source = api::SOURCE_FROZEN, c.b.destination = api::DESTINATION_BUILDING;
    c.daemon.driver.resume();
    const Migration ended = c.finish("m1");
    EXPECT_TRUE(terminal(ended.phase)) << name(at) << " " << name(ended.phase);
    expect_one_copy_as_told(c, ended);
  }
}

TEST(Migration, that_a_restart_interrupted_in_its_rollback_still_says_why) {
  Cluster c;
  const std::string id = left_behind(c, Phase::rolling_back);
  c.store.append(id, "fault",
                 {{"phase", "precopy"}, {"code", "peer_lost"}, {"message", "cut off"}, {"hint", "look at the path"}});
  c.daemon.driver.resume();
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  ASSERT_TRUE(m.reason);
  EXPECT_EQ(m.reason->code, Errc::peer_lost);
  EXPECT_EQ(m.reason->message, "cut off");
  EXPECT_EQ(m.reason->hint, "look at the path");
}

struct Disturbance {
  bool at_source;
  Body step;
  Fault fault;
};

class Disturbed : public testing::TestWithParam<Disturbance> {};

// By what the agent did, whatever came of it later.
Errc code_of(Fault fault) {
  switch (fault) {
    case Fault::refuse: return Errc::internal;  // which the fake agent says
    case Fault::break_before:
    case Fault::break_after: return Errc::peer_lost;
    case Fault::wrong_answer: return Errc::protocol;
    default: return Errc::timed_out;
  }
}

TEST_P(Disturbed, leaves_exactly_one_copy_and_says_where) {
  Cluster c;
  (GetParam().at_source ? c.a : c.b).once[GetParam().step] = GetParam().fault;
  const Migration m = c.migrate();
  expect_one_copy_as_told(c, m);
  EXPECT_TRUE(terminal(m.phase)) << name(m.phase);
  if (m.outcome != Outcome::done) {
    ASSERT_TRUE(m.reason);
    EXPECT_EQ(m.reason->code, code_of(GetParam().fault)) << m.reason->message;
    EXPECT_FALSE(m.reason->message.empty());
  }
  EXPECT_FALSE(c.store.pausing());
  // Nothing stands in the way of the next attempt.
  if (m.outcome == Outcome::done) return;
  c.until([&] { return c.a.registered() && c.b.registered(); });
  c.a.source = api::SOURCE_NONE;
  c.b.destination = api::DESTINATION_NONE;
  EXPECT_EQ(c.migrate().outcome, Outcome::done);
}

std::vector<Disturbance> all_disturbances() {
  const std::vector<std::pair<bool, Body>> steps{
      {true, Env::kSurvey}, {false, Env::kPrepare}, {true, Env::kConnect},
      {true, Env::kRound},  {true, Env::kFreeze},   {false, Env::kFinish},
      {true, Env::kArm},    {false, Env::kCommit},  {true, Env::kKillSource}};
  std::vector<Disturbance> all;
  for (const auto& [at_source, step] : steps)
    for (const Fault fault : {Fault::refuse, Fault::break_before, Fault::break_after, Fault::hang_before,
                              Fault::hang_after, Fault::wrong_answer})
      all.push_back({at_source, step, fault});
  return all;
}

std::string name_of(const testing::TestParamInfo<Disturbance>& info) {
  constexpr std::array faults{
      "", "refused", "cut_before", "cut_after", "silent_before", "silent_after", "answered_wrongly"};
  return Env::descriptor()->FindFieldByNumber(info.param.step)->name() + "_" +
         faults[static_cast<std::size_t>(info.param.fault)];
}

INSTANTIATE_TEST_SUITE_P(EveryStep, Disturbed, testing::ValuesIn(all_disturbances()), name_of);

}  // namespace
}  // namespace godwit::coordinator
