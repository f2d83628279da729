// A program that the agent runs and watches: tells when it has ended, and how.
// On the executor's thread.
#pragma once

#include "agent/workload/spawn.h"
#include "common/net/async.h"

#include <functional>
#include <memory>
#include <string>

namespace godwit::jobs {

// Waits until the process behind `pidfd` has ended; reaps it when it is ours.
net::awaitable<std::string> process_ended(UniqueFd pidfd);  // "exited with 3", "killed by signal 9", "ended"

// The environment of our own programs: nothing of the agent's but what is meant for them.
std::vector<std::string> own_environment();

}  // namespace godwit::jobs
