// godwit-engine survey: what a process consists of, and what of it cannot be carried.
#pragma once

#include "agent/engine/commands/options.h"

namespace godwit::engine::commands {

int run_survey(const Options& options);  // 3 when something is refused

}  // namespace godwit::engine::commands
