#include "agent/engine/tasks/limits.h"

#include "common/base/check.h"

#include <array>
#include <string_view>

#include <sys/resource.h>

namespace godwit::engine::tasks::limits {
namespace {

constexpr std::array<std::string_view, 16> names{
    "cpu time",           "file size",     "data size",         "stack size",      "core file size", "resident set",
    "processes",          "open files",    "locked memory",     "address space",   "file locks",     "pending signals",
    "message queue size", "nice priority", "realtime priority", "realtime timeout"};

}  // namespace

void dump(const proc::Limits& limits, image::TaskRlimitsEntry& into) {
  for (const proc::Limit& limit : limits) {
    image::RlimitEntry& e = *into.add_rlimits();
    e.set_cur(limit.soft);
    e.set_max(limit.hard);
  }
}

std::vector<std::string> restore(pid_t pid, const image::TaskRlimitsEntry& from) {
  std::vector<std::string> notices;
  for (int i = 0; i < from.rlimits_size() && i < static_cast<int>(names.size()); i++) {
    const auto resource = static_cast<__rlimit_resource>(i);
    rlimit wanted{from.rlimits(i).cur(), from.rlimits(i).max()};
    if (::prlimit(pid, resource, &wanted, nullptr) == 0) continue;
    if (errno != EPERM) check(-1, "set the limit of {}", names[static_cast<std::size_t>(i)]);
    rlimit ours{};
    check(::prlimit(pid, resource, nullptr, &ours), "read the limit of {}", names[static_cast<std::size_t>(i)]);
    notices.push_back(
        fmt::format("the hard limit of {} stays at {} ({} at the source): raising it needs CAP_SYS_RESOURCE",
                    names[static_cast<std::size_t>(i)], ours.rlim_max, wanted.rlim_max));
    wanted.rlim_max = std::min(wanted.rlim_max, ours.rlim_max);
    wanted.rlim_cur = std::min(wanted.rlim_cur, wanted.rlim_max);
    check(::prlimit(pid, resource, &wanted, nullptr), "set the limit of {}", names[static_cast<std::size_t>(i)]);
  }
  return notices;
}

}  // namespace godwit::engine::tasks::limits
