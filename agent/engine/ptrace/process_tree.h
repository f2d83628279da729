// A process with its descendants, as they are now. Reads only; the processes may run, then what is seen may be stale.
#pragma once

#include <vector>

#include <sys/types.h>

namespace godwit::engine {

struct TreeMember {
  pid_t pid = 0;      // host
  pid_t parent = 0;   // host; 0: of the root and of orphans
  bool dead = false;  // a zombie
};

// Whose parent has died is a child of the init of its PID namespace. It belongs to the tree of a process that is such a
// child itself (a workload's root); a tree dumped by hand is what CRIU's would be, without them.
enum class Orphans { left_out = 1, included };

bool is_zombie(pid_t pid);

// The root first, every parent before its children. Errc::target_gone when there is no root.
std::vector<TreeMember> tree_of(pid_t root, Orphans orphans);

}  // namespace godwit::engine
