// After the death of an engine: puts everything back that its journal lists.
#pragma once

#include "agent/engine/ptrace/journal.h"
#include "agent/engine/ptrace/remote_syscalls.h"

#include <string>

namespace godwit::engine {

// Ends what the death of its engine has interrupted in a process (memory/aio_requests.h), while the scratch memory is
// still there.
using FinishInterrupted = void (*)(Journal::Process& process, RemoteSyscalls& leader);

// All processes run on afterwards, or stay frozen by the freezer of `cgroup` (absolute path) unless `release`.
// Idempotent: may itself be killed and repeated. One that has ended is no error; one that fails stays in the journal.
// `cgroup` may be empty.
void recover(Journal& journal, const std::string& cgroup, bool release, FinishInterrupted finish);

}  // namespace godwit::engine
