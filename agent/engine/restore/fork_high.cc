#include "agent/engine/restore/fork_high.h"

#include "common/base/check.h"
#include "common/base/fd.h"

#include <algorithm>
#include <csignal>
#include <string>

#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>

namespace godwit::engine {

// Each is below the last one, which is mostly still there: that a PID is taken is found out when all memory has been
// copied.
pid_t fork_high(const std::vector<pid_t>& avoid, std::uint64_t flags, int cgroup) {
  constexpr pid_t most = 1000;
  const pid_t highest = static_cast<pid_t>(std::stol(read_file("/proc/sys/kernel/pid_max"))) - 1;
  const pid_t lowest = std::max(1, highest - most);
  static pid_t last = 0;
  if (last > highest || last <= lowest) last = highest + 1;
  long child = -1;
  errno = EEXIST;
  for (int tries = 0; child < 0 && errno == EEXIST && tries < most; tries++) {
    if (--last <= lowest) last = highest;
    pid_t pid = last;
    if (std::ranges::find(avoid, pid) != avoid.end()) {
      errno = EEXIST;
      continue;
    }
    clone_args arguments{};
    arguments.flags = flags;
    arguments.exit_signal = flags & CLONE_PARENT ? 0 : SIGCHLD;  // with CLONE_PARENT it is ours
    if (cgroup >= 0) {
      arguments.flags |= CLONE_INTO_CGROUP;
      arguments.cgroup = static_cast<std::uint64_t>(cgroup);
    }
    arguments.set_tid = reinterpret_cast<std::uint64_t>(&pid);
    arguments.set_tid_size = 1;
    child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  }
  return static_cast<pid_t>(check(child, "fork with a PID from the upper end"));
}

}  // namespace godwit::engine
