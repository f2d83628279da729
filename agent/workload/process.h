// Waiting for processes that the agent runs or only knows: tells when one has ended, and how.
#pragma once

#include "agent/workload/spawn.h"
#include "common/net/async.h"

#include <chrono>
#include <string>

namespace godwit::workload {

// Waits until the process behind `pidfd` has ended; reaps it when it is ours.
net::awaitable<std::string> process_ended(UniqueFd pidfd);  // "exited with 3", "killed by signal 9", "ended"

// The same by blocking, for a process that has just been killed. False: it is still there.
bool wait_for_exit(int pidfd, std::chrono::milliseconds limit);

// Reaps what has been killed, whenever it ends.
net::awaitable<void> reap_later(UniqueFd pidfd);

// Kills it; returns when it has ended, or after `limit`: one that is stuck in a system call ends when that does. It is
// reaped then, too.
net::awaitable<void> end_process(UniqueFd pidfd, Clock::duration limit);

// The environment of our own programs: nothing of the agent's but what is meant for them.
std::vector<std::string> own_environment();

}  // namespace godwit::workload
