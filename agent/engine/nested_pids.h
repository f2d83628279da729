// PID namespaces that processes of a tree have made, below that of its root.
//
// All numbers of a tree are those that its root knows, and so are they in the images. What a process of such a nested
// namespace is called inside, where its own calls need that, stands here. Reads only.
#pragma once

#include "agent/engine/tasks/refusals.h"
#include "common/image/pstree.pb.h"
#include "common/proc/status.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

// In each namespace below the root's, down to that of whom it is about; the last is what that one calls itself.
using InnerPids = std::vector<pid_t>;

struct NestedPids {
  pid_t init = 0;  // whose namespace it is in; 0: the root's
  InnerPids own, group;
  // Where its children are born, if not in its own namespace: that of this child; 0: in one that has no init yet.
  std::optional<pid_t> children;
  std::vector<std::string> reasons;  // why it cannot be carried
};

// Of the ids of a process, a thread, a group: those below `level`.
InnerPids below(const std::vector<pid_t>& ids, std::size_t level);

struct Relative;
// Fills in what is nested of each, parents before their children. `statuses` are those of the same processes.
void find_nested(std::vector<Relative>& tree, const std::vector<proc::Status>& statuses);

// At the freeze, of whoever is nested or has made a namespace: the others are spared a look at each thread.
std::vector<tasks::Refusal> refuse_births_of_threads(const std::vector<Relative>& tree);

void describe(const NestedPids& nested, pid_t pid, pid_t pgid, image::PstreeEntry& entry);
void describe_thread(const InnerPids& inner, pid_t tid, image::PstreeEntry& entry);

}  // namespace godwit::engine
