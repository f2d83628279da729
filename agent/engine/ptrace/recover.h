// After the death of an engine: puts everything back that its journal lists.
#pragma once

#include "agent/engine/ptrace/journal.h"

#include <string>

namespace godwit::engine {

// The process runs on afterwards, or stays frozen by the freezer of `cgroup` (absolute path) unless `release`.
// Idempotent: may itself be killed and repeated. A process that has ended is no error. `cgroup` may be empty.
void recover(Journal& journal, const std::string& cgroup, bool release);

}  // namespace godwit::engine
