// After the death of an engine: puts everything back that its journal lists.
#pragma once

#include "agent/engine/ptrace/journal.h"

#include <string>

namespace godwit::engine {

// All processes run on afterwards, or stay frozen by the freezer of `cgroup` (absolute path) unless `release`.
// Idempotent: may itself be killed and repeated. One that has ended is no error; one that fails stays in the journal.
// `cgroup` may be empty.
void recover(Journal& journal, const std::string& cgroup, bool release);

}  // namespace godwit::engine
