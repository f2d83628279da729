// Named fifos that a workload needs and that somebody here has open already.
//
// What is in a fifo is in the memory of the kernel that has it open, and is put into this node's before the commit. Who
// has it open here would take it, although the source may still go on and give it to its own readers; and what he has
// written would be the workload's. So nobody may.
#pragma once

#include "agent/engine/job.pb.h"

#include <string>
#include <vector>

namespace godwit::service {

bool names_fifos(const engine::Surveyed& survey);

// A sentence for each. Looks at every process, where the survey names a fifo.
std::vector<std::string> check_fifos(const engine::Surveyed& survey);

}  // namespace godwit::service
