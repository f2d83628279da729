// `godwit evacuate`: asks for it, follows it to its end, sums it up. Ctrl-C cancels it; a second one stops looking.
// `godwit watch NODE` follows one that somebody else has begun, and leaves it alone.
#pragma once

#include "coordinator/cli/client.h"
#include "coordinator/cli/options.h"

#include <map>
#include <optional>
#include <string>

namespace godwit::cli {

int evacuate(Client& client, const EvacuateCommand& command, bool json_output);

// The summary and the exit code of the node's evacuation once it has ended; nothing when there is none to be followed.
std::optional<int> watch_evacuation(Client& client, const std::string& node, const WatchCommand& command, bool json);

// What the API says then; nothing when no evacuation of a node of that name is under way.
std::optional<nlohmann::json> cancel_evacuation(Client& client, const std::string& node);

// What has changed since the report before, as lines; the plan first, once it is made.
class EvacuationProgress {
 public:
  std::string on_report(const nlohmann::json& report);

 private:
  bool planned_ = false;
  std::map<std::string, std::string> states_;  // by workload
};

// 0 when the node is empty, 1 when not, 5 when that is not known of some workload.
int exit_code_of_evacuation(const nlohmann::json& report);

}  // namespace godwit::cli
