// What a process shares with others, or its threads do not share among themselves, so that it would be lost in a move.
// Reads only.
#pragma once

#include "agent/engine/tasks/refusals.h"

namespace godwit::engine::tasks {

// Processes that it traces, or that use its memory, descriptor table or working directory.
// Where a process is in the tree that is carried: the parent of the root stays behind.
enum class Place { root = 1, below };
std::vector<Refusal> ties_to_others(const proc::Reader& proc, pid_t pid, Place place);

// Threads with descriptors, a working directory, a personality or namespaces of their own.
std::vector<Refusal> ties_of_threads(const proc::Reader& proc, pid_t pid);

}  // namespace godwit::engine::tasks
