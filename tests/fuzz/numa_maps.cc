// A line of /proc/PID/numa_maps, or the piece of one that fits the buffer of a look at a thread.
#include "agent/engine/tasks/refusals.h"
#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) {
  if (const auto policy = engine::tasks::numa_policy(input)) {
    require(*policy != "default" && policy->find_first_of(" \n") == std::string::npos);
    require(input.find(*policy) != std::string_view::npos);
  }
}

}  // namespace godwit
