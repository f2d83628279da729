// `godwit simulate`: the rounds that a migration would make, from a trace of what the workload writes. Needs no daemon.
#pragma once

#include "coordinator/cli/options.h"
#include "coordinator/simulation/simulate.h"

#include <nlohmann/json.hpp>

namespace godwit::cli {

// exit_done, or exit_refused when the policy would not freeze over one of the bandwidths.
int simulate(const SimulateCommand& command, bool json_output);

struct SimulatedPath {
  double bytes_per_s = 0;
  coordinator::Simulation simulation;
};
std::string simulation_report(const coordinator::Trace& trace, const coordinator::PolicyOptions& options,
                              const std::vector<SimulatedPath>& paths);
nlohmann::json simulation_json(const coordinator::Trace& trace, const coordinator::PolicyOptions& options,
                               const std::vector<SimulatedPath>& paths);

}  // namespace godwit::cli
