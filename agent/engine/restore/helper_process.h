// What runs in the helper, and the first steps of a skeleton. Only helper.cc uses it.
#pragma once

#include "agent/engine/restore/helper.h"

namespace godwit::engine {

// In the forked child. Ends the process.
[[noreturn]] void run_helper(UniqueFd socket, int init, const std::vector<pid_t>& avoid);

// In a clone that is to be a skeleton itself.
[[noreturn]] void run_sibling(std::uint64_t scratch, bool own_session);

}  // namespace godwit::engine
