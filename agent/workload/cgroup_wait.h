// Waits for a cgroup that let the loop go on; those of Cgroup itself are for synchronous code.
#pragma once

#include "agent/workload/cgroup.h"
#include "common/net/async.h"

namespace godwit::workload {

// Returns when nothing in it is alive. Errc::timed_out.
net::awaitable<void> kill_all(Cgroup& cgroup, Clock::duration limit);

// Whether it does, within `limit`. One whose tasks have died counts as thawed.
net::awaitable<bool> thaws(Cgroup& cgroup, Clock::duration limit);

}  // namespace godwit::workload
