#include "agent/engine/restore/pid_holder.h"

#include "common/base/check.h"
#include "common/proc/reader.h"

#include <vector>

#include <fmt/format.h>

namespace godwit::engine {
namespace {

struct Level {
  std::size_t depth = 0;  // below our own PID namespace
  std::string link;

  bool holds(pid_t wanted, const std::vector<pid_t>& numbers, const proc::Reader& proc) const {
    if (numbers.size() <= depth || numbers[depth] != wanted) return false;
    return depth == 0 || numbers.size() > depth + 1 || proc.link("ns/pid") == link;
  }
};

Level level_of(pid_t member) {
  const proc::Reader proc(member);
  const std::vector<pid_t> numbers = proc.status().ns_pid;
  return {.depth = numbers.empty() ? 0 : numbers.size() - 1, .link = proc.link("ns/pid")};
}

// A number stays taken as long as it names a group or a session, even if the process that had it is gone.
std::string look_at(pid_t pid, pid_t wanted, const Level& level, std::string& group) {
  const proc::Reader proc(pid);
  const proc::Status status = proc.status();
  const std::string name = fmt::format("process {} ({})", pid, status.name);
  if (level.holds(wanted, status.ns_pid, proc))
    return status.state == 'Z' ? name + ", which has ended and was not waited for" : name;
  if (level.holds(wanted, status.ns_sid, proc)) group = "the session of " + name;
  if (group.empty() && level.holds(wanted, status.ns_pgid, proc)) group = "the process group of " + name;
  if (status.threads < 2) return {};
  for (const pid_t tid : proc.threads())
    if (level.holds(wanted, proc::Reader(pid, tid).status().ns_pid, proc))
      return fmt::format("thread {} of {}", tid, name);
  return {};
}

}  // namespace

std::string pid_holder(pid_t wanted, pid_t member) {
  std::string group;
  try {
    const Level level = level_of(member);
    for (const pid_t pid : proc::all_pids()) try {
        if (std::string found = look_at(pid, wanted, level, group); !found.empty()) return found;
      } catch (const Error&) {  // it ended meanwhile, or may not be looked at
      }
  } catch (const Error&) {
  }
  return group.empty() ? "a process that has just ended" : group;
}

pid_t pid_of_pidfd(int pidfd) {
  const proc::Fdinfo info = proc::parse_fdinfo(read_file(fmt::format("/proc/self/fdinfo/{}", pidfd)));
  const pid_t pid = info.pidfd ? info.pidfd->pid : 0;
  if (pid <= 0) fail(Errc::target_gone, "a process of the restore, or the init of its namespaces, has ended");
  return pid;
}

}  // namespace godwit::engine
