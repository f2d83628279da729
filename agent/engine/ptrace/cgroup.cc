#include "agent/engine/ptrace/cgroup.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/units.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <set>

#include <fcntl.h>

namespace godwit::engine {

Cgroup::Cgroup(std::string path) : path_(std::move(path)) {
  if (::access((path_ + "/cgroup.freeze").c_str(), W_OK) != 0)
    fail(Errc::not_found, "{} is not a cgroup (v2) that can be frozen", path_);
}

void Cgroup::write(const char* file, const std::string& text) const {
  UniqueFd fd = open_file(path_ + "/" + file, O_WRONLY);
  check(::write(fd.get(), text.data(), text.size()), "write {} to {}/{}", text, path_, file);
}

// Writing to cgroup.procs waits for an RCU grace period, 10 ms of a pause, even when there is nothing to move.
void Cgroup::add(std::span<const pid_t> pids) const {
  const std::vector<pid_t> listed = proc::parse_cgroup_procs(read_file(path_ + "/cgroup.procs"));
  const std::set<pid_t> there(listed.begin(), listed.end());
  for (const pid_t pid : pids)
    if (!there.contains(pid)) write("cgroup.procs", std::to_string(pid));
}

void Cgroup::freeze() const { write("cgroup.freeze", "1"); }
void Cgroup::thaw() const { write("cgroup.freeze", "0"); }
bool Cgroup::asked_to_freeze() const { return read_file(path_ + "/cgroup.freeze").starts_with("1"); }
bool Cgroup::frozen() const { return read_file(path_ + "/cgroup.events").find("frozen 1") != std::string::npos; }

// A thread counts as frozen in its tracing stop, not on its way out of it, and again in the freezer, where it sleeps:
// what the group says while one is still on its way may be of the first kind.
void Cgroup::wait_frozen(pid_t pid, std::span<const pid_t> tids, std::chrono::milliseconds limit) const {
  const std::uint64_t deadline = monotonic_ns() + static_cast<std::uint64_t>(limit.count()) * 1'000'000;
  const auto on_its_way = [pid](pid_t tid) {
    try {
      const char state = proc::Reader(pid, tid).stat().state;
      return state == 'R' || state == 't';
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;
      return false;
    }
  };
  while (std::ranges::any_of(tids, on_its_way) || !frozen()) {
    if (monotonic_ns() > deadline) fail(Errc::timed_out, "{} did not freeze within {} ms", path_, limit.count());
    ::usleep(50);
  }
}

}  // namespace godwit::engine
