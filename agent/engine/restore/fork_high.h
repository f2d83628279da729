// A fork whose PID is from the upper end of its namespace and none of `avoid`: the next in turn may be one that a task
// needs.
#pragma once

#include <cstdint>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

// `flags`: CLONE_PARENT or nothing. `cgroup`: directory of the one that it is born into, -1: ours.
pid_t fork_high(const std::vector<pid_t>& avoid, std::uint64_t flags = 0, int cgroup = -1);

}  // namespace godwit::engine
