// A copy's cgroup (v2) and its freezer: the hold that needs no living engine.
//
// Paths are absolute. Errors: Errc::not_found when there is no such cgroup, Errc::timed_out when it does not freeze.
#pragma once

#include <chrono>
#include <span>
#include <string>

#include <sys/types.h>

namespace godwit::engine {

class Cgroup {
 public:
  explicit Cgroup(std::string path);  // must exist

  void add(std::span<const pid_t> pids) const;  // whole processes; nothing is done for those that are there already
  void freeze() const;                          // asks for it; complete when frozen()
  void thaw() const;
  bool asked_to_freeze() const;
  bool frozen() const;
  // For threads of `pid` that a tracer has just let go of: until they are in the freezer and the group says so.
  void wait_frozen(pid_t pid, std::span<const pid_t> tids,
                   std::chrono::milliseconds limit = std::chrono::seconds(5)) const;
  const std::string& path() const { return path_; }

 private:
  void write(const char* file, const std::string& text) const;
  std::string path_;
};

}  // namespace godwit::engine
