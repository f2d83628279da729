// What a tree of processes consists of and what of it cannot be carried. Reads only; never stops anything.
#pragma once

#include "agent/engine/job.pb.h"
#include "agent/engine/memories_seen.h"
#include "agent/engine/ptrace/process_tree.h"
#include "agent/engine/resources/fd_table.h"

#include <sys/types.h>

namespace godwit::engine {

// Errc::target_gone when the root ends meanwhile.
// `seen`, where it is given, becomes what this has seen last.
Surveyed survey(pid_t root, Orphans orphans, const resources::Options& options, MemoriesSeen* seen = nullptr);

}  // namespace godwit::engine
