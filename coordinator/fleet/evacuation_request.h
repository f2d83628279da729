// What an evacuation was asked for, from the API and from the journal. Errc::invalid_argument names what does not fit.
#pragma once

#include "coordinator/migration/policies.h"
#include "coordinator/store/store.h"

#include <string>
#include <vector>

namespace godwit::coordinator {

struct EvacuationRequest {
  std::string node;
  std::vector<std::string> to;  // empty: any
  unsigned parallel = 1;        // migrations at once: each has the path to itself
  MigrationSpec options;        // of every migration; source, destination and workload are filled in
  std::string by;               // the operator's name
  bool dry_run = false;
  std::vector<std::string> present;  // nodes that were connected when it began
};

EvacuationRequest evacuation_request(const std::string& node, const nlohmann::json& body, const std::string& by,
                                     const Policies& policies);

nlohmann::json to_journal(const EvacuationRequest& request);
EvacuationRequest from_journal(const StoredEvacuation& stored);

}  // namespace godwit::coordinator
