// `godwit resolve`: an operator states that a node is off, or lets a copy go on that is held after the loss of the
// other one; the frozen copy goes on.
#pragma once

#include "coordinator/cli/client.h"
#include "coordinator/cli/options.h"

namespace godwit::cli {

int resolve(Client& client, const ResolveCommand& command, bool json_output);

}  // namespace godwit::cli
