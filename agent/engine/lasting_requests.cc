#include "agent/engine/lasting_requests.h"

#include <utility>

namespace godwit::engine {
namespace {

// A slow disk may be at work whenever one looks, and be done when the freeze, which looks more often, waits for it: so
// not before as much time has passed as that waits in a migration. Large memory takes that long for one round; it may
// be one long request in two of them.
constexpr unsigned enough_rounds = 3;
constexpr std::uint64_t enough_ns = 10'000'000'000;

}  // namespace

void LastingRequests::end_round(std::uint64_t now_ns) {
  const std::map<pid_t, Since> before = std::exchange(since_, {});
  for (const auto& [pid, what] : found_) {
    const auto it = before.find(pid);
    Since& since = since_[pid] = it == before.end() ? Since{.rounds = 0, .ns = now_ns} : it->second;
    if (++since.rounds >= enough_rounds && now_ns - since.ns >= enough_ns) throw what;
  }
}

}  // namespace godwit::engine
