// Who is whose child in a tree of processes, by the PIDs that the tree itself knows. Reads only.
#pragma once

#include "agent/engine/births.h"
#include "agent/engine/nested_pids.h"
#include "agent/engine/ptrace/process_tree.h"
#include "agent/engine/tasks/refusals.h"
#include "common/image/image_set.h"
#include "common/image/pstree.pb.h"

#include <vector>

#include <sys/types.h>

namespace godwit::engine {

// What of it a destination has built cannot be changed any more.
struct Kinship {
  pid_t parent = 0;  // 0: of the root and of orphans
  pid_t session = 0;
  int terminal = -1;                            // its controlling terminal is /dev/pts/TERMINAL; -1: none
  Birth files = Birth::anew, fs = Birth::anew;  // table of descriptors; working directory, root and umask
  pid_t memory = 0;                             // whose it uses, the first one's of those who do; 0: its own
  bool handlers = false;                        // of signals: its parent's, where that uses the same memory
  bool operator==(const Kinship&) const = default;
};

struct Relative {
  pid_t host = 0, pid = 0;
  Kinship kin;
  pid_t pgid = 0;
  // The first of those who share it; its own PID: nobody else does, before it.
  pid_t files = 0, fs = 0, memory = 0, handlers = 0;
  bool dead = false;      // a zombie
  std::size_t level = 0;  // where in lists of ids (proc::Status) those of the tree's PID namespace, the root's, are
  NestedPids nested;
};

const Relative* find(const std::vector<Relative>& tree, pid_t pid);  // null: nobody of it

// The root first, every parent before its children; of these, who has an older session than his parent comes first.
std::vector<Relative> relatives_of(const std::vector<TreeMember>& tree);

// What `other`, who is in the same PID namespace or above it, knows it by.
pid_t name_of(const Relative& relative, const Relative& other);

// What of the relations cannot be rebuilt, and what relatives share beyond being relatives. At the survey and, again,
// at the freeze.
std::vector<tasks::Refusal> refuse_kinship(const std::vector<Relative>& tree);

image::PstreeEntry pstree_entry(const Relative& relative);
// pstree.img, each process with its first thread.
image::ImageSet tree_image(const std::vector<Relative>& tree);

}  // namespace godwit::engine
