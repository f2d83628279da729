// What a migration will cost, before it has begun: from the size of the workload and from how the last ones went. A
// pure function. While a migration is under way its rounds tell more (policy.h).
#pragma once

#include "coordinator/migration/migration.h"

#include <string>
#include <vector>

namespace godwit::coordinator {

struct Forecast {
  std::uint64_t bytes = 0;  // over all rounds
  double total_s = 0;
  double rate = 0;          // bytes per second on this path
  double path_rate = 0;     // the same, for all that is sent over it together: without the limit of one
  bool rate_known = false;  // it was measured: else it is an assumption
  std::int64_t downtime_ns = 0;
  std::string basis;  // for people: what it was made from
};

// `past`: migrations, newest first, of any workload; those that were not done count for nothing.
Forecast forecast(const MigrationSpec& spec, std::uint64_t resident_bytes, const std::vector<Migration>& past);

}  // namespace godwit::coordinator
