// The file in which an agent has kept a workload. What is accepted names no path but its own, and is accepted again.
#include "agent/workload/saved.h"
#include "common/base/error.h"
#include "tests/fuzz/fuzz.h"

namespace godwit {

void fuzz(std::string_view input) {
  const workload::Saved saved = workload::parse_saved("job", std::string(input));
  require(saved.info().name() == "job");
  require(workload::parse_saved("job", saved.SerializeAsString()).info().state() == saved.info().state());
}

}  // namespace godwit
