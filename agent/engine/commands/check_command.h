// godwit check: what of the kernel is there that dumps and restores need.
#pragma once

#include "agent/engine/commands/options.h"

namespace godwit::engine::commands {

int run_check(const Options& options);  // Errc::kernel_missing when something that is needed is not there

}  // namespace godwit::engine::commands
