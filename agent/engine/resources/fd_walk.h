// All descriptors of a task, looked at once: views with our copies, and what stands against carrying them.
#pragma once

#include "agent/engine/resources/fd_kind.h"

#include <vector>

namespace godwit::engine::resources {

struct FdWalk {
  std::vector<FdView> views;         // ascending by number
  std::vector<UniqueFd> copies;      // behind the views' `fd`
  std::vector<const FdKind*> kinds;  // of the views; null: none matches
};

// Raises this process's own limit of descriptors to its ceiling: as many are copied as the task has.
FdWalk walk_fds(const proc::Reader& proc, pid_t pid, int pidfd);

// Which ends of pipes, fifos and sockets the task holds: added to `held`.
void add_held(const FdWalk& walk, std::map<std::string, unsigned>& held);

// What stands against carrying these descriptors; fills the context's notices and listening.
std::vector<Refusal> refusals_of(const FdWalk& walk, SurveyContext& context);

}  // namespace godwit::engine::resources
