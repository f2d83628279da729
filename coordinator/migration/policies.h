// Named policies: what operators have agreed on once, in the coordinator's configuration. A migration takes one by name
// and may override single values. docs/policy.md describes the file.
#pragma once

#include "coordinator/migration/migration.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <map>
#include <string>

namespace godwit::coordinator {

struct Policy {
  std::string about;
  PolicyOptions options;
  std::uint64_t rate_limit = 0;
};
using Policies = std::map<std::string, Policy>;

const Policy& policy_named(const Policies& policies, const std::string& name);  // not_found, with those that there are
nlohmann::json to_json(const std::string& name, const Policy& policy);

// `what` is named in the Errc::invalid_argument, with the policy and its member.
Policies policies_from_json(const nlohmann::json& configuration, const std::string& what);
Policies read_policies(const std::string& path);  // not_found, invalid_argument

}  // namespace godwit::coordinator
