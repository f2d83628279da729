// The convergence policy over a trace and a path: the rounds that a migration would make, without any process, node or
// clock. A pure function.
//
// A round sends what is dirty at the path's rate while the trace goes on writing. When the policy freezes, the source
// catches up as the engine does (Dump::catch_up), and the pause moves what is left then; when that is more than the
// budget allows the workload runs on. A throttled one writes in proportion to its CPU time.
#pragma once

#include "coordinator/migration/policy.h"
#include "coordinator/simulation/trace.h"

#include <chrono>
#include <string>
#include <vector>

namespace godwit::coordinator {

struct Path {
  double bytes_per_s = 0;
  std::chrono::nanoseconds overhead = std::chrono::milliseconds(30);   // of a pause without pages
  std::chrono::nanoseconds round_cost = std::chrono::milliseconds(5);  // of a round that sends nothing
};

struct SimulatedRound {
  RoundRecord round;
  Decision decision;  // after it
};

struct Simulation {
  std::vector<SimulatedRound> rounds;
  std::vector<RoundRecord> ending;  // when it froze: what went ahead of the freeze, if anything, and the final round
  Decision decision;                // the last one: to freeze, or not to
  double downtime_s = 0;            // 0: it never froze
  double total_s = 0;               // with the pause
  std::uint64_t bytes = 0;
};

Simulation simulate(const Trace& trace, const Path& path, const PolicyOptions& options);

}  // namespace godwit::coordinator
