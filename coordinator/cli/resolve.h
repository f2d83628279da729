// `godwit resolve`: an operator states that a node is off, and the frozen copy at the other end goes on.
#pragma once

#include "coordinator/cli/client.h"
#include "coordinator/cli/options.h"

namespace godwit::cli {

int resolve(Client& client, const ResolveCommand& command, bool json_output);

}  // namespace godwit::cli
