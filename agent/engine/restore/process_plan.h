// What pstree.img says: which processes there are, whose children, in which sessions and process groups.
#pragma once

#include "common/image/image_set.h"

#include <vector>

#include <sys/types.h>

namespace godwit::engine {

struct ProcessPlan {
  pid_t pid = 0;
  pid_t ppid = 0;  // 0: the root, and orphans, who are children of the init of the tree's namespace
  pid_t pgid = 0, sid = 0;
  int terminal = -1;                         // its controlling terminal is /dev/pts/TERMINAL; -1: none
  bool with_files = false, with_fs = false;  // born with its maker's table of descriptors, working directory
  std::vector<pid_t> threads;
};
using TreePlan = std::vector<ProcessPlan>;

// The root first, every parent before its children. Errc::image_corrupt when it is no such tree.
TreePlan read_tree(const image::ImageSet& images);

// Of a process that has ended and was not waited for: all that is left of it is in core-PID.img.
bool is_dead(const image::ImageSet& images, pid_t pid);

// All PIDs and TIDs: nobody else may take one.
std::vector<pid_t> ids_of(const TreePlan& tree);

}  // namespace godwit::engine
