// godwit dump and godwit pre-dump: a process into an images directory.
#pragma once

#include "agent/engine/commands/options.h"

namespace godwit::engine::commands {

int run_dump(const Options& options);

}  // namespace godwit::engine::commands
