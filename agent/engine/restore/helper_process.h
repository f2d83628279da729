// What runs in the helper, and the first steps of the skeleton. Only helper.cc uses it.
#pragma once

#include "agent/engine/restore/helper.h"

namespace godwit::engine {

// A fork whose PID is from the upper end of its namespace and not `avoid`: the next in turn may be the one that the
// task needs. `flags`: CLONE_PARENT or nothing. Its threads come when the helper has gone.
pid_t fork_helper(pid_t avoid, std::uint64_t flags);

// In the forked child. Ends the process.
[[noreturn]] void run_helper(UniqueFd socket, const SpawnRequest& request);

// In a clone that is to be the skeleton itself: makes the helper, which is nobody's child when it begins to work.
[[noreturn]] void run_sibling(UniqueFd socket, const SpawnRequest& request);

}  // namespace godwit::engine
