// What runs in the helper, and the first steps of a skeleton. Only helper.cc uses it.
#pragma once

#include "agent/engine/restore/helper.h"

namespace godwit::engine {

// A fork whose PID is from the upper end of its namespace and none of `avoid`: the next in turn may be one that a task
// needs. `flags`: CLONE_PARENT or nothing. `cgroup`: directory of the one that it is born into, -1: ours.
pid_t fork_helper(const std::vector<pid_t>& avoid, std::uint64_t flags, int cgroup);

// In the forked child. Ends the process.
[[noreturn]] void run_helper(UniqueFd socket, int init, const std::vector<pid_t>& avoid);

// In a clone that is to be a skeleton itself.
[[noreturn]] void run_sibling(std::uint64_t scratch, bool own_session);

}  // namespace godwit::engine
