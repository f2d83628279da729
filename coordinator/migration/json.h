// Migrations as JSON: what the API takes and gives, what `godwit migrate --json` prints, and how a request is
// journaled. Reading is strict: an unknown member, a wrong type or a number out of range is Errc::invalid_argument and
// is named.
#pragma once

#include "coordinator/json_reader.h"
#include "coordinator/migration/policies.h"

#include <nlohmann/json.hpp>

namespace godwit::coordinator {

nlohmann::json to_json(const MigrationSpec& spec);
// With `policies` a request: the policy that it names gives the values which it does not. Without, what was journaled.
MigrationSpec spec_from_json(const nlohmann::json& body, const Policies* policies = nullptr);

// What a migration may spend: members that are missing leave what is there. `spec_from_json` takes the same members.
void read_policy(JsonReader& in, PolicyOptions& options, std::uint64_t& rate_limit);
nlohmann::json policy_to_json(const PolicyOptions& options, std::uint64_t rate_limit);

nlohmann::json to_json(const RoundRecord& round);
nlohmann::json to_json(const Reason& reason);

// The report: every member that docs/operations promises, in milliseconds and bytes.
nlohmann::json to_json(const Migration& migration);

// 1 .. 64 characters of [A-Za-z0-9._-], the first a letter or digit: names become file and cgroup names.
void check_name(std::string_view what, std::string_view text);

}  // namespace godwit::coordinator
