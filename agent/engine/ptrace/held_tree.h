// A process with all its descendants, held: nothing of the tree runs (hold.h says how one process is held).
//
// Parents stop before their children, since a stopped one makes no more of them, and are released after them, so that
// no shell in the tree sees a stopped child. What a stop tells a parent in the tree (SIGCHLD) is taken back.
//
// One thread. The constructor throws what Hold's throws, having let go of everything.
#pragma once

#include "agent/engine/ptrace/hold.h"
#include "agent/engine/ptrace/process_tree.h"
#include "agent/engine/ptrace/still_parent.h"

#include <functional>
#include <memory>
#include <set>
#include <vector>

namespace godwit::engine {

class HeldTree {
 public:
  // Where the interrupted calls of a process are remembered.
  using CallsOf = std::function<InterruptedCalls&(pid_t)>;

  // `only`: just these, and those above them, who else would be told of their stops; empty: the whole tree.
  HeldTree(pid_t root, Orphans orphans, Journal& journal, const CallsOf& calls, const HoldOptions& options,
           std::set<pid_t> only = {});
  ~HeldTree();  // releases, if nothing else has
  HeldTree(const HeldTree&) = delete;
  HeldTree& operator=(const HeldTree&) = delete;

  // The root first, every parent before its children.
  const std::vector<TreeMember>& members() const { return members_; }
  Hold& of(pid_t pid) const;
  Hold* find(pid_t pid) const;
  std::uint64_t stopped_at_ns() const { return holds_.front()->stopped_at_ns(); }

  void release();                                // all run on
  void let_run(const std::set<pid_t>& stopped);  // all run on, also these, which were stopped
  void leave_stopped();                          // as Hold's
  void leave_frozen(const Cgroup& cgroup);
  void gone();  // all have been killed

 private:
  void look();
  void hold_all(Journal& journal, const CallsOf& calls, const HoldOptions& options);
  bool hold_new(Journal& journal, const CallsOf& calls, const HoldOptions& options);
  void find_shared_memory();
  void forget_child_stops();
  template <class Act>
  void children_first(Act act);

  StillParent parent_;  // the last one to run on
  pid_t root_;
  Orphans orphans_;
  std::set<pid_t> only_;
  std::vector<TreeMember> members_;
  std::set<pid_t> zombies_;  // before anybody was held
  std::vector<std::unique_ptr<Hold>> holds_;
};

}  // namespace godwit::engine
