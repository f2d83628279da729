// One cgroup (v2) as the home of a copy of a workload, of an engine job, or of the inits.
//
// What is done here needs the core of cgroup v2 only (procs, freeze, kill, events), no controller: on machines
// where the controllers are v1 this hierarchy is still there. The object holds the directory open, so a cgroup
// that was removed and made again under the same name is never taken for the old one.
//
// Waits are short polls; cgroup_wait.h has those for coroutines. Errors: not_found, timed_out, and others by what
// failed. Not thread-safe.
#pragma once

#include "common/base/fd.h"
#include "common/base/units.h"

#include <chrono>
#include <optional>
#include <string>
#include <vector>

namespace godwit::workload {

class Cgroup {
 public:
  // Makes it and its parents where missing; one that exists is opened.
  static Cgroup create(const std::string& path);
  static std::optional<Cgroup> open(const std::string& path);  // nothing: there is none
  // By id, wherever it may be found: nothing when it was removed. `path` is what it is called then; `beside` is any
  // one.
  static std::optional<Cgroup> open_by_id(std::uint64_t id, const std::string& path, const Cgroup& beside);

  const std::string& path() const { return path_; }
  std::uint64_t id() const;  // no other one has it until the next boot
  int dir() const { return dir_.get(); }

  void add(pid_t pid);  // moves a process with all its threads
  std::vector<pid_t> pids() const;
  bool populated() const { return event("populated"); }  // here or below; zombies do not count
  bool frozen() const { return event("frozen"); }        // every task below has stopped
  // It was told to stand still and not to run on since. frozen() says less for a moment when a task of it is killed:
  // until that has gone, not every task has stopped.
  bool told_to_freeze() const;

  void request_freeze();
  void request_thaw();
  void kill();  // everything below, also while frozen

  void freeze(std::chrono::milliseconds limit);
  void thaw(std::chrono::milliseconds limit);
  void wait_empty(std::chrono::milliseconds limit) const;

  // Of an empty one. False: it is still in use.
  bool remove() const;
  // Kills what is in it and below and removes it; for leftovers of a former life.
  static void destroy(const std::string& path, std::chrono::milliseconds limit);

 private:
  Cgroup(std::string path, UniqueFd dir) : path_(std::move(path)), dir_(std::move(dir)) {}
  bool event(std::string_view name) const;
  std::string read(const char* file) const;  // empty when the cgroup was removed
  void write(const char* file, std::string_view text) const;

  std::string path_;
  UniqueFd dir_;
};

// The v2 cgroup that a process is in, as a path below `mount` (where cgroup v2 is mounted).
std::string cgroup_of(pid_t pid, const std::string& mount);

// Where cgroup v2 is mounted. Errc::kernel_missing when it is not.
std::string cgroup2_mount();

}  // namespace godwit::workload
