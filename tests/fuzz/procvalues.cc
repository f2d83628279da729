// The small files of /proc. The first byte picks one, so that one target serves them all.
#include "common/proc/limits.h"
#include "common/proc/locks.h"
#include "common/proc/values.h"

#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) {
  if (input.empty()) return;
  const std::string_view text = input.substr(1);
  switch (input[0] % 13) {
    case 0: proc::parse_limits(text); break;
    case 1: proc::parse_sched(text); break;
    case 2: proc::parse_cgroup(text); break;
    case 3: proc::parse_pids(text); break;
    case 4: proc::parse_personality(text); break;
    case 5: proc::parse_oom_score_adj(text); break;
    case 6: proc::parse_loginuid(text); break;
    case 7: proc::parse_coredump_filter(text); break;
    case 8: proc::parse_autogroup_nice(text); break;
    case 9: proc::parse_context_switches(text); break;
    case 10: proc::parse_cgroup_procs(text); break;
    case 11: proc::parse_cpu_usage_us(text); break;
    case 12:
      for (const proc::Lock& lock : proc::parse_locks(text)) require(!lock.kind.empty() && !lock.file.empty());
      break;
  }
}

}  // namespace godwit
