// A line of /proc/PID/numa_maps, or the piece of one that fits the buffer of a look at a thread; also what a peer's
// agent says of one.
#include "agent/engine/numa/policy.h"
#include "tests/fuzz/fuzz.h"

namespace godwit {

using namespace engine;

void fuzz(std::string_view input) {
  const std::string_view shown = numa::shown_policy(input);
  require(shown.empty() || input.find(shown) != std::string_view::npos);
  for (const std::string_view text : {shown, input}) {
    const auto policy = numa::parse_policy(text);
    if (!policy) continue;
    numa::lacking_as_shown(*policy, {0});
    if (const std::string again = numa::to_text(*policy); again.size() < 63) {
      const auto same = numa::parse_policy(again);
      require(same && same->SerializeAsString() == policy->SerializeAsString());
    }
  }
}

}  // namespace godwit
