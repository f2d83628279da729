#include "coordinator/migration/phases.h"

#include <gtest/gtest.h>

namespace godwit::coordinator {
namespace {

TEST(Phases, an_undisturbed_migration_walks_to_done) {
  Phase p = Phase::queued;
  int steps = 0;
  while (!terminal(p) && steps++ < 20) p = next(p, Event::ok).value();
  EXPECT_EQ(p, Phase::done);
}

TEST(Phases, a_freeze_that_is_over_the_budget_leads_back_to_rounds) {
  EXPECT_EQ(next(Phase::freezing, Event::over_budget), Phase::precopy);
  EXPECT_EQ(next(Phase::finishing, Event::over_budget), std::nullopt);
}

TEST(Phases, names_round_trip_and_none_is_missing) {
  for (const NamedPhase& n : phase_names) EXPECT_EQ(phase_from_name(name(n.phase)), n.phase);
  EXPECT_EQ(name(Phase::undecided), "undecided");
  EXPECT_EQ(phase_from_name("nonsense"), std::nullopt);
}

TEST(Phases, an_unknown_outcome_is_asked_about_again_when_a_node_returns) {
  EXPECT_EQ(next(Phase::undecided, Event::node_returned), Phase::asking);
  EXPECT_TRUE(settled(Phase::undecided));
  EXPECT_FALSE(terminal(Phase::undecided));
}

}  // namespace
}  // namespace godwit::coordinator
