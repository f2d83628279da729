#include "coordinator/migration/policies.h"

#include "coordinator/json_file.h"
#include "coordinator/migration/json.h"

#include <fmt/ranges.h>

#include <ranges>

namespace godwit::coordinator {

using nlohmann::json;

const Policy& policy_named(const Policies& policies, const std::string& name) {
  if (const auto found = policies.find(name); found != policies.end()) return found->second;
  const std::string shown = name.substr(0, 80);
  if (policies.empty())
    throw Error(Errc::not_found, fmt::format("no policy '{}': none is configured", shown),
                "name them in the file that godwit-coordinator gets with --config");
  throw Error(Errc::not_found,
              fmt::format("no policy '{}'; there are {}", shown, fmt::join(std::views::keys(policies), ", ")),
              "`godwit policies` lists them with their values");
}

json to_json(const std::string& name, const Policy& policy) {
  json out = policy_to_json(policy.options, policy.rate_limit);
  out["name"] = name;
  out["about"] = policy.about;
  return out;
}

Policies policies_from_json(const json& configuration, const std::string& what) {
  JsonReader in(configuration, what);
  in.skip("policies");
  in.end();
  const json all = configuration.value("policies", json::object());
  if (!all.is_object()) fail(Errc::invalid_argument, "{}: 'policies' must be an object: a name for each policy", what);
  Policies policies;
  for (const auto& [name, body] : all.items()) {
    Doing doing("{}", what);
    check_name("policy", name);
    JsonReader values(body, "policy " + name);
    Policy policy{.about = values.text("about"), .options = {}};
    read_policy(values, policy.options, policy.rate_limit);
    values.end();
    policies.emplace(name, std::move(policy));
  }
  return policies;
}

Policies read_policies(const std::string& path) { return policies_from_json(read_json_file(path), path); }

}  // namespace godwit::coordinator
