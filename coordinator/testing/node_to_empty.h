// For tests: what evacuations need of a cluster.
#pragma once

#include "coordinator/testing/cluster.h"

namespace godwit::coordinator {

// What hangs does so for longer than it takes to make a plan.
inline Limits limits_of_plans(std::chrono::seconds patience) {
  Limits limits = short_limits();
  limits.stall = std::chrono::seconds(60);
  limits.connect = limits.prepare = limits.pause = limits.commit = std::chrono::seconds(4);
  limits.arm = std::chrono::seconds(1);
  limits.patience = patience;
  return limits;
}

inline api::WorkloadInfo running_workload(const std::string& name) {
  api::WorkloadInfo w;
  w.set_name(name);
  w.set_id(name + ".0");
  w.set_state("running");
  return w;
}

}  // namespace godwit::coordinator
