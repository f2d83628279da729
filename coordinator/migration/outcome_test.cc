// How migrations end whose outcome is in doubt: what the records of both sides say, and what a replaced record file
// cannot say.
#include "coordinator/testing/cluster.h"
#include "coordinator/testing/in_doubt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace godwit::coordinator {
namespace {

using testing::HasSubstr;
using testing::Not;
using Env = api::Envelope;

TEST(Outcome, of_a_copy_that_died_at_both_ends_is_that_the_workload_has_gone) {
  for (const api::DestinationPhase there : {api::DESTINATION_REFUSED, api::DESTINATION_LOST}) {
    Cluster c;
    const std::string id = left_behind(c, Phase::committing);
    c.a.source = api::SOURCE_LOST;
    c.b.destination = there;
    c.daemon.driver.resume();
    const Migration m = c.finish(id);
    EXPECT_EQ(m.outcome, Outcome::rolled_back);
    EXPECT_EQ(m.reason->code, Errc::target_gone);
    EXPECT_THAT(m.reason->message, HasSubstr("died while the source held it"));
    EXPECT_FALSE(c.daemon.registry.nodes().at("a").workloads.contains("redis"));
  }
}

TEST(Outcome, of_a_kill_that_finds_its_copy_lost_is_done) {
  Cluster c;
  c.b.once[Env::kCommit] = Fault::hang_after;  // so that the killing comes after a look at the records
  const std::string id = c.daemon.driver.start(c.to_b());
  c.until([&] { return c.b.destination == api::DESTINATION_RESUMED; });
  c.a.source = api::SOURCE_LOST;
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::done);
  EXPECT_EQ(std::ranges::count(c.a.asked, Env::kKillSource), 1) << "it is not asked until its patience ends";
}

// The record file of one side was made anew: what it says of a migration that the old one knew proves nothing. Also not
// to a coordinator that was restarted meanwhile.
TEST(Outcome, is_not_believed_from_replaced_records) {
  struct Case {
    api::SourcePhase source;
    api::DestinationPhase destination;
    bool source_replaced;
    Phase left_in = Phase::committing;
  };
  for (const Case& is : {Case{api::SOURCE_THAWED, api::DESTINATION_PREPARED, true},
                         Case{api::SOURCE_NONE, api::DESTINATION_PREPARED, true},
                         Case{api::SOURCE_LOST, api::DESTINATION_REFUSED, false},
                         Case{api::SOURCE_THAWED, api::DESTINATION_BUILDING, true, Phase::freezing},
                         Case{api::SOURCE_NONE, api::DESTINATION_BUILDING, true, Phase::freezing}}) {
    Cluster c;
    const std::string id = left_behind(c, is.left_in);
    c.a.peer = nullptr;
    c.a.source = is.source;
    c.b.destination = is.destination;
    (is.source_replaced ? c.a : c.b).store_uuid = "another";
    c.daemon.driver.resume();
    EXPECT_EQ(c.finish(id).outcome, Outcome::unknown) << is.source;
  }
}

TEST(Outcome, is_believed_from_the_records_that_the_journal_names) {
  Cluster c;
  const std::string id = left_behind(c, Phase::committing);
  c.a.source = api::SOURCE_NONE;
  c.daemon.driver.resume();
  EXPECT_EQ(c.finish(id).outcome, Outcome::rolled_back);
}

TEST(Outcome, journals_whose_records_it_was_driven_by) {
  Cluster c;
  const std::string id = c.migrate().id;
  ASSERT_EQ(events(c, id, "stores").size(), 1u);
  EXPECT_EQ(events(c, id, "stores")[0]["source"], "store-a");
  EXPECT_EQ(events(c, id, "stores")[0]["destination"], "store-b");
}

TEST(Outcome, that_was_not_journaled_is_asked_for_and_then_is) {
  Cluster c;
  const std::string id = left_behind(c, Phase::undecided);
  c.a.source = api::SOURCE_ARMED;
  c.a.peer = nullptr;
  c.b.always[Env::kQuery] = Fault::hang_before;
  c.daemon.driver.resume();
  EXPECT_EQ(c.finish(id).outcome, Outcome::unknown);
  EXPECT_EQ(events(c, id, "outcome").size(), 1u);
}

TEST(Outcome, that_is_done_in_the_end_has_no_reason_left) {
  Cluster c;
  const std::string id = cut_off_at_commit(c);
  EXPECT_TRUE(c.store.migration(id)->reason);
  c.b.destination = api::DESTINATION_RESUMED;
  c.b.always.clear();
  c.b.reconnects = true;
  c.b.start();
  c.until([&] { return c.store.migration(id)->phase == Phase::done; });
  EXPECT_EQ(c.store.migration(id)->outcome, Outcome::done);
  EXPECT_FALSE(c.store.migration(id)->reason);
}

// Whoever drives it on does not know any more how far it was: the workload has stood still.
TEST(Outcome, of_a_copy_that_had_been_frozen_is_no_refusal) {
  Limits limits = short_limits();
  limits.again = std::chrono::milliseconds(20);
  Cluster c(limits);
  c.a.peer = nullptr;
  c.b.always[Env::kCommit] = Fault::refuse;
  c.b.refusal = Errc::busy;
  const std::string id = c.daemon.driver.start(c.to_b());
  const Migration undecided = c.finish(id);
  EXPECT_EQ(undecided.outcome, Outcome::unknown);
  EXPECT_EQ(undecided.reason->code, Errc::busy) << "which would be a refusal, had nothing been frozen";
  c.a.source = api::SOURCE_THAWED;
  c.until([&] { return c.store.migration(id)->phase == Phase::rolled_back; });
  EXPECT_EQ(c.store.migration(id)->outcome, Outcome::rolled_back);
}

TEST(Outcome, that_stays_unknown_is_reported_once) {
  Limits limits = short_limits();
  limits.again = std::chrono::milliseconds(20);
  limits.patience = std::chrono::milliseconds(50);
  Cluster c(limits);
  const std::string id = cut_off_at_commit(c);
  const std::size_t told = c.store.events(id, 0).size();
  const auto asked = [&] { return std::ranges::count(c.a.asked, Env::kQuerySource); };
  const auto before = asked();
  c.until([&] { return asked() > before + 6; });
  EXPECT_EQ(c.store.events(id, 0).size(), told);
  EXPECT_EQ(events(c, id, "outcome").size(), 1u);
  EXPECT_EQ(c.store.migration(id)->outcome, Outcome::unknown);
  // What is new is reported.
  c.a.source = api::SOURCE_THAWED;
  c.until([&] { return c.store.migration(id)->phase == Phase::rolled_back; });
  ASSERT_EQ(events(c, id, "outcome").size(), 2u);
  EXPECT_EQ(events(c, id, "outcome")[1]["outcome"], "rolled_back");
}

// Waiting brings nothing: an operator is told at once, and once.
TEST(Outcome, of_a_loss_that_the_source_is_held_after_is_for_an_operator_to_decide) {
  Limits limits = short_limits();
  limits.patience = std::chrono::seconds(60);
  limits.again = std::chrono::milliseconds(20);
  Cluster c(limits);
  const std::string id = left_behind(c, Phase::committing);
  c.a.source = api::SOURCE_ARMED;
  c.b.destination = api::DESTINATION_LOST;
  c.b.holds_after_loss = true;
  c.daemon.driver.resume();
  const Migration m = c.finish(id);
  EXPECT_EQ(m.outcome, Outcome::unknown);
  EXPECT_EQ(m.reason->code, Errc::target_gone);
  EXPECT_THAT(m.reason->message, HasSubstr("lost after it may have run"));
  EXPECT_THAT(m.reason->hint, HasSubstr("godwit resolve " + id + " --go-on"));
  const auto asked = [&] { return std::ranges::count(c.a.asked, Env::kQuerySource); };
  const auto before = asked();
  c.until([&] { return asked() > before + 3; });
  EXPECT_EQ(events(c, id, "outcome").size(), 1u);
  net::run_to_end(c.io, c.daemon.driver.resolve(id, Statement::go_on, "ann"));
  ASSERT_EQ(c.a.resolutions.size(), 1u);
  EXPECT_TRUE(c.a.resolutions[0].go_on());
  EXPECT_FALSE(c.a.resolutions[0].destination_is_off());
  c.until([&] { return c.store.migration(id)->phase == Phase::rolled_back; });
  ASSERT_EQ(events(c, id, "resolve").size(), 1u);
  EXPECT_EQ(events(c, id, "resolve")[0]["lost"], "b");
  const Reason why = c.store.migration(id)->reason.value();
  EXPECT_EQ(why.code, Errc::target_gone);
  EXPECT_THAT(why.message, HasSubstr("lost after it may have run; 'redis' goes on on node 'a'"));
  EXPECT_THAT(why.hint, Not(HasSubstr("godwit resolve"))) << "that is done";
  EXPECT_TRUE(c.a.runs("redis"));
}

TEST(Outcome, that_was_unknown_for_another_reason_is_reported_anew_when_it_is_a_loss) {
  Limits limits = short_limits();
  limits.again = std::chrono::milliseconds(20);
  limits.patience = std::chrono::milliseconds(50);
  Cluster c(limits);
  const std::string id = cut_off_at_commit(c);
  c.b.always.clear();
  c.b.destination = api::DESTINATION_LOST;
  c.b.holds_after_loss = true;
  c.b.reconnects = true;
  c.b.start();
  c.until([&] { return c.store.migration(id)->reason->code == Errc::target_gone; });
  EXPECT_EQ(c.store.migration(id)->outcome, Outcome::unknown);
  EXPECT_EQ(events(c, id, "outcome").size(), 2u);
}

TEST(Outcome, of_a_loss_is_asked_for_at_the_destination_as_it_was_chosen) {
  Cluster c;
  MigrationSpec spec = c.to_b();
  for (const IfLost choice : {IfLost::automatic, IfLost::thaw, IfLost::hold}) {
    spec.policy.if_lost = choice;
    c.b.always[Env::kPrepare] = Fault::hang_after;
    c.finish(c.daemon.driver.start(spec));
  }
  EXPECT_THAT(c.b.if_lost, testing::ElementsAre(api::IF_LOST_UNSAID, api::IF_LOST_THAW, api::IF_LOST_HOLD));
}

}  // namespace
}  // namespace godwit::coordinator
