// godwit restore: a process from an images directory.
#pragma once

#include "agent/engine/commands/options.h"

namespace godwit::engine::commands {

// The exit status of the process when it is waited for (128 + signal when one ended it), else 0.
int run_restore(const Options& options);

}  // namespace godwit::engine::commands
