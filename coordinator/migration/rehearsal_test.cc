// Rehearsals between two fake agents: the copy at the destination is prepared and never runs.
#include "coordinator/migration/json.h"
#include "coordinator/testing/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace godwit::coordinator {
namespace {

using testing::HasSubstr;
using Env = api::Envelope;

MigrationSpec rehearsal(const Cluster& c) {
  MigrationSpec spec = c.to_b();
  spec.rehearse = true;
  return spec;
}

Migration rehearse(Cluster& c) { return c.finish(c.daemon.driver.start(rehearsal(c))); }

void expect_as_before(const Cluster& c) {
  EXPECT_TRUE(c.a.runs("redis"));
  EXPECT_TRUE(c.b.workloads.empty());
  for (const FakeAgent* agent : {&c.a, &c.b})
    for (const auto never : {Env::kArm, Env::kCommit, Env::kKillSource})
      EXPECT_EQ(std::ranges::count(agent->asked, never), 0) << never;
}

TEST(Rehearsal, prepares_the_copy_and_discards_it_while_the_source_goes_on) {
  Cluster c;
  const Migration m = rehearse(c);
  EXPECT_EQ(m.outcome, Outcome::rehearsed) << (m.reason ? m.reason->message : "");
  EXPECT_EQ(m.phase, Phase::rolled_back);
  EXPECT_FALSE(m.reason);
  EXPECT_EQ(c.a.source, api::SOURCE_THAWED);
  EXPECT_EQ(c.b.destination, api::DESTINATION_REFUSED);
  EXPECT_EQ(std::ranges::count(c.b.asked, Env::kFinish), 1);
  EXPECT_EQ(std::ranges::count(c.a.asked, Env::kAbort), 1);
  expect_as_before(c);
  EXPECT_EQ(c.daemon.registry.find("redis").node, "a");
}

TEST(Rehearsal, says_what_the_downtime_would_have_been) {
  Cluster c;
  const Migration m = rehearse(c);
  EXPECT_GT(m.downtime_ns, 1'000'000 + 8'000'000) << "the source's steps, and the end that was left out";
  EXPECT_LT(m.downtime_ns, 1'000'000'000);
  std::int64_t sum = 0;
  for (const StepRecord& s : m.steps) sum += s.nanoseconds;
  EXPECT_EQ(sum, m.downtime_ns);
  EXPECT_GT(m.predicted_downtime_ns, 0);
  const auto events = c.store.events(m.id, 0);
  EXPECT_TRUE(std::ranges::any_of(events, [](const StoredEvent& e) {
    return e.kind == "notice" && e.body["text"].get<std::string>().find("stood still for") != std::string::npos;
  }));
  EXPECT_EQ(to_json(m)["outcome"], "rehearsed");
  EXPECT_EQ(to_json(m)["rehearsal"], true);
}

TEST(Rehearsal, stands_in_the_way_of_nothing_and_teaches_no_downtime) {
  Cluster c;
  rehearse(c);
  c.a.source = api::SOURCE_NONE;
  c.b.destination = api::DESTINATION_NONE;
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_NEAR(static_cast<double>(m.predicted_downtime_ns), 20e6, 3e6) << "as if nothing had been measured";
}

TEST(Rehearsal, fails_when_the_destination_does_not_say_that_it_has_discarded) {
  Cluster c;
  c.b.always[Env::kDiscard] = Fault::hang_before;
  const Migration m = rehearse(c);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_THAT(m.reason->message, HasSubstr("node 'b' does not say that it has discarded the copy"));
  EXPECT_TRUE(c.a.runs("redis"));
}

TEST(Rehearsal, fails_when_something_is_left_at_the_destination) {
  Cluster c;
  const std::string id = c.daemon.driver.start(rehearsal(c));
  c.until([&] { return c.b.destination == api::DESTINATION_BUILDING; });
  c.b.workloads.push_back(c.a.workloads[0]);
  c.b.workloads[0].set_state("prepared");
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_THAT(m.reason->message, HasSubstr("node 'b' still lists the workload"));
}

TEST(Rehearsal, fails_when_the_source_runs_something_else_afterwards) {
  Cluster c;
  const std::string id = c.daemon.driver.start(rehearsal(c));
  c.until([&] { return c.b.destination == api::DESTINATION_PREPARED; });
  c.a.workloads[0].set_pid(99);
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_THAT(m.reason->message, HasSubstr("node 'a' does not run the workload as before"));
}

TEST(Rehearsal, that_a_restart_interrupted_is_rolled_back_with_a_reason) {
  for (const Phase at : {Phase::precopy, Phase::freezing, Phase::finishing, Phase::rolling_back}) {
    Cluster c;
    Migration m{.id = "m1", .epoch = 1};
    m.spec = rehearsal(c);
    m.spec.source = "a";
    c.store.add(m);
    c.store.enter("m1", at);
    c.a.source = at < Phase::freezing ? api::SOURCE_NONE : api::SOURCE_FROZEN;
    c.b.destination = at == Phase::rolling_back ? api::DESTINATION_PREPARED : api::DESTINATION_BUILDING;
    c.daemon.driver.resume();
    const Migration ended = c.finish("m1");
    EXPECT_EQ(ended.outcome, Outcome::rolled_back) << name(at);
    EXPECT_THAT(ended.reason->message, HasSubstr("the coordinator was restarted")) << name(at);
    expect_as_before(c);
  }
}

struct Disturbance {
  bool at_source;
  FakeAgent::Body step;
  Fault fault;
};
class DisturbedRehearsal : public testing::TestWithParam<Disturbance> {};

TEST_P(DisturbedRehearsal, never_lets_the_copy_run) {
  Cluster c;
  (GetParam().at_source ? c.a : c.b).once[GetParam().step] = GetParam().fault;
  const Migration m = rehearse(c);
  EXPECT_EQ(m.phase, Phase::rolled_back);
  EXPECT_NE(m.outcome, Outcome::done);
  EXPECT_TRUE(m.outcome == Outcome::rehearsed || m.reason);
  expect_as_before(c);
}

std::vector<Disturbance> all_disturbances() {
  std::vector<Disturbance> all;
  for (const auto& [at_source, step] : std::vector<std::pair<bool, FakeAgent::Body>>{{true, Env::kSurvey},
                                                                                     {false, Env::kPrepare},
                                                                                     {true, Env::kConnect},
                                                                                     {true, Env::kRound},
                                                                                     {true, Env::kFreeze},
                                                                                     {false, Env::kFinish},
                                                                                     {true, Env::kAbort},
                                                                                     {false, Env::kDiscard},
                                                                                     {false, Env::kQuery}})
    for (const Fault fault : {Fault::refuse, Fault::break_after, Fault::hang_before, Fault::wrong_answer})
      all.push_back({at_source, step, fault});
  return all;
}

std::string name_of(const testing::TestParamInfo<Disturbance>& info) {
  constexpr std::array faults{"", "refused", "", "cut_after", "silent_before", "", "answered_wrongly"};
  return Env::descriptor()->FindFieldByNumber(info.param.step)->name() + "_" +
         faults[static_cast<std::size_t>(info.param.fault)];
}

INSTANTIATE_TEST_SUITE_P(EveryStep, DisturbedRehearsal, testing::ValuesIn(all_disturbances()), name_of);

}  // namespace
}  // namespace godwit::coordinator
