// Less CPU time for a workload, by CPU bandwidth control, and back.
//
// Where `cpu` is a controller of cgroup v2 the limit is on the copy's own cgroup; where it is one of v1, on a group
// made for it below the one that the tasks are in, and they are moved there and back. Nothing may stay limited: whoever
// makes a CpuLimit is the last to lift it, and a note on disk says what to lift to the one who comes after him.
//
// Errors: kernel_missing, by name, where CPU time cannot be limited; unsupported when the tasks are in several groups.
// Not thread-safe.
#pragma once

#include "agent/workload/cgroup.h"

#include <cstdint>
#include <optional>
#include <string>

namespace godwit::workload {

// What the kernel is told: so much in each period. Short periods, so that a task never waits long for the next one.
struct CpuQuota {
  std::uint64_t quota_us = 0, period_us = 0;
};
CpuQuota quota_of(double cpus);

// Where a limit is written and what lifts it.
struct LimitPlace {
  std::string file, lifted;
  std::string group, home;  // v1: made here, and where the tasks come from; v2: empty
};
// v2: of a cgroup whose parent has the controller, which is enabled for it where that was not done. Nothing: it has
// not.
std::optional<LimitPlace> limit_place_v2(const std::string& cgroup);

// The note of a limit; nothing for an empty one, which a crash of the machine may leave. Errc::image_corrupt for what
// is none.
std::string note_of(const LimitPlace& place);
std::optional<LimitPlace> parse_limit_note(const std::string& text);

class CpuLimit {
 public:
  // `copy`: a cgroup (v2) with tasks; `name`: of the group that may have to be made; `note`: a file, there while
  // something has to be lifted.
  CpuLimit(const std::string& copy, const std::string& name, std::string note);
  ~CpuLimit() { lift(); }
  CpuLimit(const CpuLimit&) = delete;
  CpuLimit& operator=(const CpuLimit&) = delete;

  void set(double cpus);                // when it fails there is none
  void lift() noexcept;                 // as it was before; what failed is logged
  bool is_set() const { return set_; }  // also when it could not be lifted
  // Whether anybody lives whom it limits, or could when it stays: in the copy, or in the group made for it. Nobody
  // knows while it cannot be read: then as well.
  bool has_tasks() const noexcept;
  const Cgroup& copy() const { return copy_; }

  // Writing `lifted` to `file` takes the limit away at once.
  const LimitPlace& place() const { return place_; }

  static void lift_noted(const std::string& note) noexcept;  // of a former life

 private:
  void write_note() const;
  void move_in();

  Cgroup copy_;
  std::string note_;
  LimitPlace place_;
  bool set_ = false;
};

// CPU time used in a cgroup (v2, whatever its controllers) so far.
std::uint64_t cpu_time_us(const Cgroup& cgroup);

}  // namespace godwit::workload
