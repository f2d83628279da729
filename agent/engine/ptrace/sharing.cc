#include "agent/engine/ptrace/sharing.h"

#include "agent/engine/ptrace/stop.h"
#include "common/base/check.h"

#include <algorithm>
#include <optional>
#include <set>

#include <sys/syscall.h>

namespace godwit::engine {
namespace {

// kcmp's order of them is arbitrary, but total and stable as long as nobody ends.
class Known {
 public:
  explicit Known(int kind) : kind_(kind) {}

  // Nothing when somebody is ending, so that comparisons say nothing.
  std::optional<pid_t> first_like(pid_t pid) {
    const auto at = std::ranges::partition_point(first_, [&](pid_t k) { return compare(k, pid) == less; });
    const bool same = at != first_.end() && compare(*at, pid) == 0;
    // To the kernel two processes that have none are the same, and one that has gone is none.
    if (failed_ || (same && (is_ending(*at) || is_ending(pid)))) return std::nullopt;
    return same ? *at : *first_.insert(at, pid);
  }

 private:
  static constexpr long less = 1;
  long compare(pid_t a, pid_t b) {
    const long order = ::syscall(SYS_kcmp, a, b, kind_, 0, 0);
    failed_ = failed_ || order < 0;
    return order;
  }

  int kind_;
  bool failed_ = false;
  std::vector<pid_t> first_;  // ascending
};

}  // namespace

std::vector<pid_t> first_sharers(std::span<const pid_t> pids, int kind) {
  std::set<pid_t> ending;
  for (;;) {
    Known known(kind);
    std::vector<pid_t> first;
    for (const pid_t pid : pids) {
      const std::optional<pid_t> found = ending.contains(pid) ? pid : known.first_like(pid);
      if (!found) break;
      first.push_back(*found);
    }
    if (first.size() == pids.size()) return first;
    const int error = errno;
    const std::size_t before = ending.size();
    std::ranges::copy_if(pids, std::inserter(ending, ending.end()), is_ending);
    if (ending.size() == before) throw syscall_error(error, "compare what processes share");
  }
}

}  // namespace godwit::engine
