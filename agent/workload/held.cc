#include "agent/workload/held.h"

#include "common/proc/reader.h"

#include <algorithm>

namespace godwit::workload {

HeldTasks held_tasks(const Cgroup& copy) {
  std::vector<pid_t> pids = copy.pids();
  std::ranges::sort(pids);
  HeldTasks held;
  for (const pid_t pid : pids) {
    const proc::Stat stat = proc::Reader(pid).stat();
    HeldTask& task = *held.Add();
    task.set_pid(pid);
    task.set_start_time(stat.start_time);
    task.set_threads(static_cast<std::uint32_t>(stat.num_threads));
  }
  return held;
}

bool all_there(const Cgroup& copy, const HeldTasks& held) {
  try {
    const auto same = [](const HeldTask& a, const HeldTask& b) {
      return a.pid() == b.pid() && a.start_time() == b.start_time() && a.threads() == b.threads();
    };
    return std::ranges::equal(held_tasks(copy), held, same);
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone) throw;
    return false;
  }
}

}  // namespace godwit::workload
