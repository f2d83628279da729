// /proc/PID/status and /proc/PID/task/TID/status. Fields that this kernel does not print keep their
// defaults; unknown ones are ignored. Errors: Errc::internal, also when Pid, Tgid, Uid or Gid are missing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace godwit::proc {

struct FourIds {
  std::uint32_t real = 0;
  std::uint32_t effective = 0;
  std::uint32_t saved = 0;
  std::uint32_t fs = 0;
  bool operator==(const FourIds&) const = default;
};

struct Status {
  std::string name;  // with newline and backslash as the kernel escapes them
  std::uint32_t umask = 0;
  char state = 0;
  pid_t tgid = 0;
  pid_t pid = 0;
  pid_t ppid = 0;
  pid_t tracer_pid = 0;  // 0: not traced
  FourIds uid;
  FourIds gid;
  std::vector<std::uint32_t> groups;

  // From the reader's PID namespace inwards; the last is what the task itself sees.
  std::vector<pid_t> ns_tgid;
  std::vector<pid_t> ns_pid;
  std::vector<pid_t> ns_pgid;
  std::vector<pid_t> ns_sid;

  bool kernel_thread = false;
  bool core_dumping = false;
  bool thp_enabled = true;
  std::uint32_t threads = 0;
  std::uint64_t rss_bytes = 0;
  std::uint64_t swap_bytes = 0;

  std::uint64_t signals_queued = 0;
  std::uint64_t signals_limit = 0;
  std::uint64_t sig_pending = 0;         // to this thread
  std::uint64_t shared_sig_pending = 0;  // to the process
  std::uint64_t sig_blocked = 0;
  std::uint64_t sig_ignored = 0;
  std::uint64_t sig_caught = 0;

  std::uint64_t cap_inh = 0;
  std::uint64_t cap_prm = 0;
  std::uint64_t cap_eff = 0;
  std::uint64_t cap_bnd = 0;
  std::uint64_t cap_amb = 0;
  std::string mems_allowed;  // "0-1": NUMA nodes
  bool no_new_privs = false;
  std::uint32_t seccomp = 0;  // SECCOMP_MODE_*
  std::uint32_t seccomp_filters = 0;
  std::uint64_t untag_mask = ~std::uint64_t{0};  // other: linear address masking is on (6.4+)
};

// Of a list of ids, one for each PID namespace: what the task itself sees. `otherwise` on a kernel without such lists.
inline pid_t innermost(const std::vector<pid_t>& ids, pid_t otherwise) { return ids.empty() ? otherwise : ids.back(); }

// What those know it by who are `level` PID namespaces below the reader's.
inline pid_t at_level(const std::vector<pid_t>& ids, std::size_t level, pid_t otherwise) {
  return ids.size() > level ? ids[level] : innermost(ids, otherwise);
}

Status parse_status(std::string_view text);

}  // namespace godwit::proc
