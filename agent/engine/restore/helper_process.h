// What runs in the helper, and the first steps of the skeleton. Only helper.cc uses it.
#pragma once

#include "agent/engine/restore/helper.h"

namespace godwit::engine {

// In the forked child. Ends the process.
[[noreturn]] void run_helper(UniqueFd socket, const SpawnRequest& request);

}  // namespace godwit::engine
