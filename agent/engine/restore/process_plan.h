// What pstree.img says: which processes there are, whose children, in which sessions and process groups.
#pragma once

#include "common/image/image_set.h"

#include <map>
#include <optional>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

struct ProcessPlan {
  pid_t pid = 0;
  pid_t ppid = 0;  // 0: the root, and orphans, who are children of the init of the tree's namespace
  pid_t pgid = 0, sid = 0;
  int terminal = -1;                         // its controlling terminal is /dev/pts/TERMINAL; -1: none
  bool with_files = false, with_fs = false;  // born with its maker's table of descriptors, working directory
  pid_t memory_of = 0;                       // whose it uses (CLONE_VM), as its parent does or has it; 0: its own
  bool with_handlers = false;                // of signals: its parent's (CLONE_SIGHAND)
  std::vector<pid_t> threads;
  bool dead = false;  // it has ended and was not waited for: all that is left of it is in core-PID.img

  // PID namespaces below that of the root (nested_pids.h).
  pid_t init = 0;                               // of the one that it is in; 0: the root's
  std::map<pid_t, std::vector<pid_t>> inner{};  // what it, its threads and its group are called there
  std::optional<pid_t> init_of_children{};      // where these are born, if elsewhere; 0: there is none yet

  bool makes_namespace() const { return init == pid; }
  // From the root's namespace down to that of whom they are about.
  std::vector<pid_t> names_of(pid_t number) const;
};
using TreePlan = std::vector<ProcessPlan>;

// The root first, every parent before its children. Errc::image_corrupt when it is no such tree. Without the images of
// the processes nobody counts as dead.
TreePlan read_tree(const image::ImageSet& images);

// The only thread of a process that has ended has a TID that nobody set, in the images of CRIU (up to 4.2).
void correct_ended(image::ImageSet& images);

// ProcessPlan::dead, of one process.
bool is_dead(const image::ImageSet& images, pid_t pid);

// Errc::image_corrupt when somebody has ended as nobody can, or is still needed. With all images.
void check_ends(const image::ImageSet& images, const TreePlan& tree);
// The same when a lock of a file would be placed by nobody.
void check_locks(const image::ImageSet& images, const TreePlan& tree);

// All PIDs and TIDs: nobody else may take one.
std::vector<pid_t> ids_of(const TreePlan& tree);

}  // namespace godwit::engine
