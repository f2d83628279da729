// Namespaces of a tree that the destination does not make anew: its sandbox, which would be lost without a word.
#pragma once

#include "agent/engine/job.pb.h"

#include <sys/types.h>

namespace godwit::service {

// Adds refusals to the survey of the tree of `root`. `init`: of the namespaces that its workload was given; 0: none, it
// is to live in those of the agent. Those of an init are for PIDs, mounts and IPC.
void refuse_namespaces(pid_t root, pid_t init, engine::Surveyed& survey);

}  // namespace godwit::service
