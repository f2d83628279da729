// What a process shares with others, or its threads do not share among themselves, so that it would be lost in a move.
// Reads only.
#pragma once

#include "agent/engine/tasks/refusals.h"

#include <span>

namespace godwit::engine::tasks {

// Processes that it traces, or that use its memory; and of those that are not in `tree`, the root first, who use its
// descriptor table or working directory.
std::vector<Refusal> ties_to_others(const proc::Reader& proc, pid_t pid, std::span<const pid_t> tree);

// Threads with descriptors, a working directory, a personality or namespaces of their own.
std::vector<Refusal> ties_of_threads(const proc::Reader& proc, pid_t pid);
// Threads whose children are not born where the process's are: a link is read for each. Among the former; for the
// freeze.
std::vector<Refusal> births_of_threads(const proc::Reader& proc, pid_t pid);

}  // namespace godwit::engine::tasks
