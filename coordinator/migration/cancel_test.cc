// What a cancel comes to, at every step, and that it is not forgotten.
#include "coordinator/testing/full_journal.h"
#include "coordinator/testing/in_doubt.h"
#include "coordinator/testing/one_copy.h"
#include "tests/support/synced_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace godwit::coordinator {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Body = FakeAgent::Body;
using Env = api::Envelope;

// The agent that is asked `step` hangs; whoever waits for it alone would wait for the time-out.
std::string start_and_hang(Cluster& c, FakeAgent& agent, Body step, Fault fault) {
  agent.once[step] = fault;
  std::string id = c.daemon.driver.start(c.to_b());
  c.until([&] { return std::ranges::count(agent.asked, step) > 0; });
  return id;
}

struct Step {
  bool at_source;
  Body body;
};
class Cancelled : public testing::TestWithParam<std::tuple<Step, Fault>> {};

TEST_P(Cancelled, rolls_back_at_once_and_tells_both_agents) {
  Limits slow = short_limits();
  slow.survey = slow.prepare = slow.connect = slow.stall = slow.pause = slow.arm = std::chrono::seconds(60);
  Cluster c(slow);
  const auto [step, fault] = GetParam();
  const std::string id = start_and_hang(c, step.at_source ? c.a : c.b, step.body, fault);
  c.daemon.driver.cancel(id, "ann");
  c.daemon.driver.cancel(id, "bob");
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  ASSERT_TRUE(m.reason);
  EXPECT_EQ(m.reason->code, Errc::cancelled);
  EXPECT_EQ(m.reason->message, "cancelled by ann");
  const bool arming = step.body == Env::kArm;
  EXPECT_EQ(std::ranges::count(c.a.asked, Env::kAbort), arming ? 2 : 1)
      << "what was armed is asked for its end as well";
  EXPECT_EQ(std::ranges::count(c.b.asked, Env::kDiscard), step.body == Env::kSurvey ? 0 : 1) << "it knows of nothing";
  EXPECT_EQ(std::ranges::count(c.a.asked, Env::kArm), arming ? 1 : 0);
  EXPECT_EQ(std::ranges::count(c.b.asked, Env::kCommit), 0);
  EXPECT_TRUE(c.a.runs("redis"));
  EXPECT_FALSE(c.store.pausing());
  expect_one_copy_as_told(c, m);
}

std::string name_of_cancelled(const testing::TestParamInfo<std::tuple<Step, Fault>>& info) {
  const auto [step, fault] = info.param;
  return Env::descriptor()->FindFieldByNumber(step.body)->name() +
         (fault == Fault::hang_before ? "_silent_before" : "_silent_after");
}

INSTANTIATE_TEST_SUITE_P(BeforeTheCommit, Cancelled,
                         testing::Combine(testing::Values(Step{true, Env::kSurvey}, Step{false, Env::kPrepare},
                                                          Step{true, Env::kConnect}, Step{true, Env::kRound},
                                                          Step{true, Env::kFreeze}, Step{false, Env::kFinish},
                                                          Step{true, Env::kArm}),
                                          testing::Values(Fault::hang_before, Fault::hang_after)),
                         name_of_cancelled);

TEST(Cancel, of_one_that_has_not_begun_asks_nobody_for_anything) {
  Cluster c;
  const std::string id = c.daemon.driver.start(c.to_b());
  c.daemon.driver.cancel(id, "");
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_EQ(m.reason->message, "cancelled on request");
  EXPECT_THAT(without_lists(c.a.asked), ElementsAre(Env::kAbort));
}

Errc code_of_cancel(Cluster& c, const std::string& id) {
  try {
    c.daemon.driver.cancel(id, "ann");
  } catch (const Error& e) {
    return e.errc();
  }
  return Errc{};
}

// Handler by handler from the destination's answer to the commit: what is not refused is not done all the same.
TEST(Cancel, that_is_accepted_at_the_last_moment_counts) {
  bool in_time = true;
  for (int handlers = 0; in_time && handlers < 200; handlers++) {
    Cluster c;
    const std::string id = c.daemon.driver.start(c.to_b());
    while (c.b.destination != api::DESTINATION_PREPARED) c.io.run_one();
    for (int i = 0; i < handlers; i++) c.io.run_one();
    in_time = code_of_cancel(c, id) != Errc::busy;
    const Migration m = c.finish(id);
    EXPECT_EQ(m.outcome, in_time ? Outcome::rolled_back : Outcome::done) << "after " << handlers << " handlers";
    EXPECT_EQ(std::ranges::count(c.b.asked, Env::kCommit), in_time ? 0 : 1) << "after " << handlers << " handlers";
    expect_one_copy_as_told(c, m);
  }
  EXPECT_FALSE(in_time) << "the commit was never seen";
}

// The arming got no answer, so the records are read: with nobody asked to commit that is not too late.
TEST(Cancel, of_one_that_asks_how_an_arming_went_undoes_it) {
  for (const Fault arming : {Fault::hang_before, Fault::hang_after})
    for (const auto& [at_source, question] :
         std::vector<std::pair<bool, Body>>{{false, Env::kQuery}, {true, Env::kQuerySource}}) {
      Limits slow = short_limits();
      slow.question = std::chrono::seconds(60);
      Cluster c(slow);
      c.a.once[Env::kArm] = arming;
      const std::string id = start_and_hang(c, at_source ? c.a : c.b, question, Fault::hang_before);
      c.daemon.driver.cancel(id, "ann");
      const Migration m = c.finish(id);
      EXPECT_EQ(m.outcome, Outcome::rolled_back);
      ASSERT_TRUE(m.reason);
      EXPECT_EQ(m.reason->message, "cancelled by ann");
      EXPECT_EQ(std::ranges::count(c.b.asked, Env::kCommit), 0);
      EXPECT_TRUE(c.a.runs("redis"));
      EXPECT_EQ(c.b.destination, api::DESTINATION_REFUSED);
      expect_one_copy_as_told(c, m);
    }
}

// The armed source cannot have the destination refuse as yet: nobody commits all the same, then or later.
TEST(Cancel, that_cannot_be_completed_is_not_forgotten) {
  Cluster c;
  c.a.once[Env::kArm] = Fault::hang_after;
  c.a.peer = nullptr;
  const std::string id = start_and_hang(c, c.a, Env::kArm, Fault::hang_after);
  c.daemon.driver.cancel(id, "ann");
  EXPECT_EQ(c.finish(id).outcome, Outcome::unknown);
  c.daemon.driver.node_returned("a");
  EXPECT_EQ(c.finish(id).outcome, Outcome::unknown);
  c.a.peer = &c.b;
  c.daemon.driver.node_returned("b");
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  ASSERT_TRUE(m.reason);
  EXPECT_EQ(m.reason->message, "cancelled by ann");
  EXPECT_EQ(std::ranges::count(c.b.asked, Env::kCommit), 0);
  expect_one_copy_as_told(c, m);
}

TEST(Cancel, is_refused_from_the_commit_on_and_the_migration_completes) {
  for (const auto& [at_source, step] :
       std::vector<std::pair<bool, Body>>{{false, Env::kCommit}, {true, Env::kKillSource}, {false, Env::kQuery}}) {
    Cluster c;
    if (step == Env::kQuery) c.b.once[Env::kCommit] = Fault::hang_after;
    const std::string id = start_and_hang(c, at_source ? c.a : c.b, step, Fault::hang_after);
    EXPECT_EQ(code_of_cancel(c, id), Errc::busy) << step;
    const Migration m = c.finish(id);
    EXPECT_EQ(m.outcome, Outcome::done) << step << (m.reason ? m.reason->message : "");
    expect_one_copy_as_told(c, m);
  }
}

TEST(Cancel, of_one_that_rolls_back_already_changes_nothing) {
  Cluster c;
  c.a.once[Env::kAbort] = Fault::hang_before;
  const std::string id = start_and_hang(c, c.b, Env::kFinish, Fault::refuse);
  c.until([&] { return std::ranges::count(c.a.asked, Env::kAbort) > 0; });
  c.daemon.driver.cancel(id, "ann");
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_THAT(m.reason->message, HasSubstr("says no"));
}

// The Arm of an earlier life of the coordinator arrives late: an Abort finds the source armed, and with a destination
// that is prepared the migration could go on.
TEST(Cancel, of_one_that_rolls_back_already_keeps_it_from_going_on) {
  Cluster c;
  c.a.once[Env::kAbort] = Fault::hang_before;
  const std::string id = start_and_hang(c, c.b, Env::kFinish, Fault::refuse);
  c.until([&] { return std::ranges::count(c.a.asked, Env::kAbort) > 0; });
  c.daemon.driver.cancel(id, "ann");
  c.a.source = api::SOURCE_ARMED;
  c.a.peer = nullptr;  // for a while it cannot have the destination refuse
  c.b.destination = api::DESTINATION_PREPARED;
  c.until([&] { return std::ranges::count(c.b.asked, Env::kQuery) > 1; });
  c.a.peer = &c.b;
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_EQ(m.reason->message, "cancelled by ann") << "else it would have gone on";
  EXPECT_EQ(std::ranges::count(c.b.asked, Env::kCommit), 0);
  expect_one_copy_as_told(c, m);
}

// The later of two lives knows only what is in the journal.
TEST(Cancel, and_its_reason_outlive_the_coordinator) {
  for (const Phase at : {Phase::precopy, Phase::arming, Phase::rolling_back, Phase::asking})
    for (const bool blamed : {false, true}) {
      if (at == Phase::rolling_back && !blamed) continue;  // what has gone wrong is journaled before that phase is
      Cluster c;
      const std::string id = left_behind(c, at);
      c.store.append(id, "cancel", {{"by", "ann"}});
      if (blamed) {
        c.store.append(id, "fault", {{"phase", "arming"}, {"code", "timed_out"}, {"message", "late"}, {"hint", ""}});
        c.store.append(id, "fault",
                       {{"phase", "asking"}, {"code", "cancelled"}, {"message", "cancelled by ann"}, {"hint", ""}});
      }
      c.a.source = api::SOURCE_ARMED;
      c.b.destination = api::DESTINATION_PREPARED;
      c.daemon.driver.resume();
      c.until([&] { return std::ranges::count(c.a.asked, Env::kAbort) > 0; });
      c.daemon.driver.cancel(id, "bob");
      const Migration m = c.finish(id);
      EXPECT_EQ(m.outcome, Outcome::rolled_back) << name(at);
      ASSERT_TRUE(m.reason) << name(at);
      EXPECT_EQ(m.reason->message, "cancelled by ann") << name(at);
      EXPECT_EQ(std::ranges::count(c.b.asked, Env::kCommit), 0) << name(at);
      expect_one_copy_as_told(c, m);
    }
}

// In the pause nothing else is.
TEST(Cancel, is_on_the_disk_when_it_is_answered) {
  char directory[] = "/tmp/godwit-journal-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  const std::string state = std::string(directory) + "/state";
  std::filesystem::create_directory(state);
  {
    test::SyncedDisk disk(state);
    Cluster c(short_limits(), state + "/journal.db");
    const std::string id = start_and_hang(c, c.b, Env::kFinish, Fault::hang_after);
    EXPECT_TRUE(c.store.pausing());
    c.daemon.driver.cancel(id, "ann");
    disk.find_after_power_loss(std::string(directory) + "/found");
    const Store found(std::string(directory) + "/found/journal.db");
    const std::vector<StoredEvent> told = found.events(id, 0);
    EXPECT_TRUE(std::ranges::any_of(told, [](const StoredEvent& e) { return e.kind == "cancel"; }));
    c.finish(id);
  }
  std::filesystem::remove_all(directory);
}

TEST(Cancel, that_cannot_be_kept_is_carried_out_but_not_promised) {
  FullJournal disk;
  Cluster c(short_limits(), disk.path());
  const std::string id = start_and_hang(c, c.b, Env::kFinish, Fault::hang_after);
  disk.refuse("INSERT ON events");
  EXPECT_EQ(code_of_cancel(c, id), Errc::internal);
  EXPECT_EQ(code_of_cancel(c, id), Errc::internal) << "no more than before";
  disk.make_room();
  EXPECT_EQ(code_of_cancel(c, id), Errc{});
  EXPECT_EQ(code_of_cancel(c, id), Errc{});
  EXPECT_EQ(events(c, id, "cancel").size(), 1u);
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_EQ(m.reason->code, Errc::cancelled);
}

// Its record says that it will thaw, so it needs nobody; the destination has not heard of it.
TEST(Cancel, has_the_destination_discard_also_when_the_source_has_let_go_already) {
  Cluster c;
  c.a.once[Env::kArm] = Fault::hang_before;
  const std::string id = start_and_hang(c, c.b, Env::kQuery, Fault::hang_before);
  c.a.source = api::SOURCE_ABORTED;
  c.daemon.driver.cancel(id, "ann");
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::rolled_back);
  EXPECT_EQ(std::ranges::count(c.b.asked, Env::kDiscard), 1);
  EXPECT_EQ(c.b.destination, api::DESTINATION_REFUSED);
}

TEST(Cancel, of_one_whose_destination_turns_out_to_run_is_too_late_however_often) {
  Cluster c;
  const std::string id = left_behind(c, Phase::arming);
  c.store.append(id, "cancel", {{"by", "ann"}});
  c.a.source = api::SOURCE_ARMED;
  c.b.destination = api::DESTINATION_RESUMED;
  c.a.once[Env::kKillSource] = Fault::hang_before;
  c.daemon.driver.resume();
  c.until([&] { return std::ranges::count(c.a.asked, Env::kKillSource) > 0; });
  EXPECT_EQ(code_of_cancel(c, id), Errc::busy);
  EXPECT_EQ(c.finish(id).outcome, Outcome::done);
}

TEST(Cancel, of_one_that_has_ended_or_never_was_is_an_error) {
  Cluster c;
  EXPECT_EQ(code_of_cancel(c, c.migrate().id), Errc::not_found);
  EXPECT_EQ(code_of_cancel(c, "m0"), Errc::not_found);
}

TEST(Cancel, of_an_unknown_outcome_comes_too_late) {
  Cluster c;
  c.b.always[Env::kCommit] = Fault::break_after;
  c.b.reconnects = false;
  c.a.peer = nullptr;
  const Migration m = c.migrate();
  ASSERT_EQ(m.outcome, Outcome::unknown);
  EXPECT_EQ(code_of_cancel(c, m.id), Errc::busy);
}

TEST(Cancel, leaves_the_way_free_for_the_next_attempt) {
  Cluster c;
  const std::string id = start_and_hang(c, c.a, Env::kFreeze, Fault::hang_after);
  c.daemon.driver.cancel(id, "ann");
  c.finish(id);
  c.a.source = api::SOURCE_NONE;
  c.b.destination = api::DESTINATION_NONE;
  EXPECT_EQ(c.migrate().outcome, Outcome::done);
}

}  // namespace
}  // namespace godwit::coordinator
