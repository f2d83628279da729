// Migrations that are under way: finding, following and cancelling them, and changing how fast they send.
#pragma once

#include "coordinator/cli/client.h"
#include "coordinator/cli/options.h"

#include <optional>
#include <string>

namespace godwit::cli {

struct Follow {
  bool progress = true;  // live, on standard error
  bool json = false;     // the report as JSON
};

// Ends when the migration has settled: prints the report and returns the exit code that goes with the outcome.
int follow_to_its_end(Client& client, const std::string& id, const Follow& how);

int watch(Client& client, const WatchCommand& command, bool json_output);
int cancel(Client& client, const CancelCommand& command, bool json_output);
int set_rate(Client& client, const RateCommand& command, bool json_output);

// What the API says of the migration `id`; nothing when there is none.
std::optional<nlohmann::json> report_of(Client& client, const std::string& id);

// The only one in the list of those under way. Errors: not_found, invalid_argument with the ones to choose from.
std::string only_one(const nlohmann::json& under_way);

}  // namespace godwit::cli
