// What every migration between two fake agents has to leave: exactly one copy that is alive, and a coordinator that
// says which.
#pragma once

#include "coordinator/testing/cluster.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace godwit::coordinator {

// Without what is asked all the time.
inline std::vector<FakeAgent::Body> without_lists(const std::vector<FakeAgent::Body>& asked) {
  std::vector<FakeAgent::Body> rest;
  std::ranges::copy_if(asked, std::back_inserter(rest),
                       [](FakeAgent::Body b) { return b != api::Envelope::kListWorkloads; });
  return rest;
}

inline bool alive_at_source(const Cluster& c) {
  return c.a.source == api::SOURCE_NONE || c.a.source == api::SOURCE_THAWED;
}
inline bool alive_at_destination(const Cluster& c) { return c.b.destination == api::DESTINATION_RESUMED; }

inline void expect_one_copy_as_told(const Cluster& c, const Migration& m) {
  EXPECT_NE(alive_at_source(c), alive_at_destination(c)) << c.a.source << " " << c.b.destination;
  ASSERT_TRUE(m.outcome);
  EXPECT_EQ(*m.outcome == Outcome::done, alive_at_destination(c)) << name(*m.outcome);
}

}  // namespace godwit::coordinator
