// Reads the /proc files of one process or thread through the parsers.
//
// Holds the /proc/PID directory open: a PID that was reused is never taken for the old process, its files
// then fail. Errors: Errc::target_gone when the task has ended; others by what failed. Not thread-safe.
#pragma once

#include "common/base/fd.h"
#include "common/proc/fdinfo.h"
#include "common/proc/limits.h"
#include "common/proc/maps.h"
#include "common/proc/mountinfo.h"
#include "common/proc/stat.h"
#include "common/proc/status.h"
#include "common/proc/timers.h"
#include "common/proc/values.h"

#include <string>
#include <vector>

namespace godwit::proc {

class Reader {
 public:
  explicit Reader(pid_t pid);    // /proc/PID
  Reader(pid_t pid, pid_t tid);  // /proc/PID/task/TID

  std::vector<Vma> maps() const { return parse_maps(text("maps")); }
  std::vector<VmaUsage> smaps() const { return parse_smaps(text("smaps")); }
  Stat stat() const { return parse_stat(text("stat")); }
  Status status() const;
  Limits limits() const { return parse_limits(text("limits")); }
  std::vector<PosixTimer> timers() const { return parse_timers(text("timers")); }
  std::vector<Mount> mountinfo() const { return parse_mountinfo(text("mountinfo")); }
  Sched sched() const { return parse_sched(text("sched")); }
  std::vector<CgroupLine> cgroup() const { return parse_cgroup(text("cgroup")); }
  std::uint32_t personality() const { return parse_personality(text("personality")); }
  std::int32_t oom_score_adj() const { return parse_oom_score_adj(text("oom_score_adj")); }
  std::uint32_t loginuid() const { return parse_loginuid(text("loginuid")); }
  std::string comm() const;
  std::vector<std::uint64_t> auxv() const;  // words, AT_NULL included

  std::vector<pid_t> threads() const;   // ascending; may change while the process runs
  std::vector<pid_t> children() const;  // of all its threads, zombies included, ascending
  std::vector<int> fds() const;         // ascending
  Fdinfo fdinfo(int fd) const { return parse_fdinfo(text("fdinfo/" + std::to_string(fd))); }
  std::string fd_link(int fd) const { return link("fd/" + std::to_string(fd)); }

  std::string text(const std::string& name) const;
  std::string link(const std::string& name) const;  // "exe", "cwd", "root", "ns/pid", ...
  UniqueFd open(const std::string& name, int flags) const;
  int dir() const { return dir_.get(); }
  const std::string& path() const { return path_; }

 private:
  std::vector<int> numbers(const std::string& name) const;
  void check_alive(int error_number) const;  // throws target_gone, or puts errno back

  std::string path_;  // for messages
  UniqueFd dir_;
};

// Reader::children() where the kernel has no lists of children: every stat names its parent, which costs 10 us for each
// process of the machine.
std::vector<pid_t> children_by_parent(pid_t pid);

// The PIDs that /proc shows, ascending.
std::vector<pid_t> all_pids();

}  // namespace godwit::proc
