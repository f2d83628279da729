// Resource limits of a process.
#pragma once

#include "common/image/core.pb.h"
#include "common/proc/limits.h"

#include <string>
#include <vector>

#include <sys/types.h>

namespace godwit::engine::tasks::limits {

void dump(const proc::Limits& limits, image::TaskRlimitsEntry& into);
// Before credentials. Without CAP_SYS_RESOURCE a hard limit cannot be raised: it is left, and a notice returned.
std::vector<std::string> restore(pid_t pid, const image::TaskRlimitsEntry& from);

}  // namespace godwit::engine::tasks::limits
