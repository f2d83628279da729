// `godwit migrate`: asks for the migration, follows it to its end, reports.
#pragma once

#include "coordinator/cli/client.h"
#include "coordinator/cli/options.h"

namespace godwit::cli {

int migrate(Client& client, const MigrateCommand& command, bool json_output);

nlohmann::json policy_request(const PolicyChoice& choice);  // the members that were given
nlohmann::json migration_request(const MigrateCommand& command);
nlohmann::json migration_options(const MigrateCommand& command);  // of it: how to move, whatever is moved

}  // namespace godwit::cli
