#include "agent/engine/ptrace/process_tree.h"

#include "common/base/check.h"
#include "common/proc/reader.h"

#include <algorithm>

namespace godwit::engine {
namespace {

// The init of a PID namespace other than ours; 0 when `pid` is no child of one.
pid_t foreign_init_above(const proc::Reader& root) {
  const pid_t parent = root.stat().ppid;
  if (parent <= 1) return 0;
  const std::vector<pid_t> ids = proc::Reader(parent).status().ns_pid;
  return ids.size() > 1 && ids.back() == 1 ? parent : 0;
}

// Nothing of a process that has ended meanwhile.
void add_children(std::vector<TreeMember>& tree, pid_t pid) {
  try {
    for (const pid_t child : proc::Reader(pid).children())
      if (std::ranges::find(tree, child, &TreeMember::pid) == tree.end())
        tree.push_back({.pid = child, .parent = pid, .dead = false});
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone) throw;
  }
}

}  // namespace

bool is_zombie(pid_t pid) {
  const char state = proc::Reader(pid).stat().state;
  // The first thread of a process may have ended before the others: that is refused, but not taken for a zombie.
  return state == 'X' || (state == 'Z' && proc::Reader(pid).threads().size() <= 1);
}

std::vector<TreeMember> tree_of(pid_t root, Orphans orphans) {
  std::vector<TreeMember> tree{{.pid = root, .parent = 0, .dead = false}};
  if (orphans == Orphans::included)
    if (const pid_t init = foreign_init_above(proc::Reader(root))) {
      add_children(tree, init);
      for (TreeMember& m : tree) m.parent = 0;
    }
  for (std::size_t i = 0; i < tree.size(); i++) add_children(tree, tree[i].pid);
  std::erase_if(tree, [&](TreeMember& m) {
    try {
      m.dead = is_zombie(m.pid);
      return false;
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone || m.pid == root) throw;
      return true;
    }
  });
  return tree;
}

}  // namespace godwit::engine
