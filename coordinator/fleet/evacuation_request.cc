#include "coordinator/fleet/evacuation_request.h"

#include "coordinator/migration/json.h"

namespace godwit::coordinator {
namespace {

using nlohmann::json;

constexpr unsigned most_parallel = 16;
constexpr std::size_t most_nodes = 1000;
constexpr auto own_members = {"workload", "pid", "from", "to", "rehearse"};  // of one migration

// What is the same for all migrations: a request without what differs.
MigrationSpec common_spec(json options, const std::string& node, const Policies* policies) {
  for (const char* own : own_members)
    if (options.contains(own))
      fail(Errc::invalid_argument, "evacuation: '{}' is not the same for all of its migrations", own);
  options["workload"] = options["to"] = node;  // placeholders with the shape of names
  MigrationSpec spec = spec_from_json(options, policies);
  spec.workload.clear();
  spec.destination.clear();
  return spec;
}

EvacuationRequest read(JsonReader& in, const std::string& node, const std::string& by, const Policies* policies) {
  EvacuationRequest request{.node = node,
                            .to = in.texts("to", most_nodes),
                            .parallel = static_cast<unsigned>(in.number("parallel", 1, 1, most_parallel)),
                            .options = {},
                            .by = by,
                            .present = {}};
  request.options = common_spec(in.object("options"), node, policies);
  return request;
}

}  // namespace

EvacuationRequest evacuation_request(const std::string& node, const json& body, const std::string& by,
                                     const Policies& policies) {
  JsonReader in(body, "evacuation");
  EvacuationRequest request = read(in, node, by, &policies);
  request.dry_run = in.flag("dry_run", false);
  in.end();
  return request;
}

json to_journal(const EvacuationRequest& request) {
  json options = to_json(request.options);
  for (const char* own : own_members) options.erase(own);
  return {{"to", request.to}, {"parallel", request.parallel}, {"options", options}, {"present", request.present}};
}

EvacuationRequest from_journal(const StoredEvacuation& stored) {
  JsonReader in(stored.request, "evacuation");
  EvacuationRequest request = read(in, stored.node, stored.by, nullptr);
  request.present = in.texts("present", most_nodes);
  in.end();
  return request;
}

}  // namespace godwit::coordinator
