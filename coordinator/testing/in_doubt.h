// For tests: migrations whose outcome is in doubt, and what the journal says of them.
#pragma once

#include "coordinator/testing/cluster.h"

#include <gtest/gtest.h>

namespace godwit::coordinator {

inline std::vector<nlohmann::json> events(const Cluster& c, const std::string& id, const std::string& kind) {
  std::vector<nlohmann::json> found;
  for (const StoredEvent& e : c.store.events(id, 0))
    if (e.kind == kind) found.push_back(e.body);
  return found;
}

// Armed and prepared, and neither the coordinator nor the source reaches the destination.
inline std::string cut_off_at_commit(Cluster& c) {
  c.b.always[api::Envelope::kCommit] = Fault::break_before;
  c.b.reconnects = false;
  c.a.peer = nullptr;
  const std::string id = c.daemon.driver.start(c.to_b());
  EXPECT_EQ(c.finish(id).phase, Phase::undecided);
  EXPECT_EQ(c.a.source, api::SOURCE_ARMED);
  return id;
}

// As a coordinator that was restarted finds it.
inline std::string left_behind(Cluster& c, Phase at) {
  Migration m{.id = "m1", .epoch = 1};
  m.spec = c.to_b();
  m.spec.source = "a";
  c.store.add(m);
  c.store.append("m1", "stores", {{"source", c.a.store_uuid}, {"destination", c.b.store_uuid}});
  c.store.enter("m1", at);
  return "m1";
}

}  // namespace godwit::coordinator
