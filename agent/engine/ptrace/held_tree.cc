#include "agent/engine/ptrace/held_tree.h"

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <set>

namespace godwit::engine {

HeldTree::HeldTree(pid_t root, Orphans orphans, Journal& journal, const CallsOf& calls, const HoldOptions& options)
    : root_(root), orphans_(orphans) {
  try {
    while (hold_new(journal, calls, options)) continue;
    forget_child_stops();
  } catch (...) {
    while (!holds_.empty()) holds_.pop_back();
    throw;
  }
}

HeldTree::~HeldTree() {
  while (!holds_.empty()) holds_.pop_back();
}

// Whoever is not held yet. False: all are, and none of them can make another one.
bool HeldTree::hold_new(Journal& journal, const CallsOf& calls, const HoldOptions& options) {
  members_ = tree_of(root_, orphans_);
  bool found = false;
  for (const TreeMember& m : members_) {
    if (m.dead || std::ranges::any_of(holds_, [&](const auto& h) { return h->pid() == m.pid; })) continue;
    found = true;
    try {
      holds_.push_back(std::make_unique<Hold>(m.pid, journal, calls(m.pid), options));
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone || m.pid == root_) throw;
    }
  }
  return found;
}

void HeldTree::forget_child_stops() {
  for (const auto& hold : holds_) {
    std::set<pid_t> children;
    for (const TreeMember& m : members_)
      if (m.parent == hold->pid() && !m.dead) children.insert(proc::Reader(m.pid).status().ns_pid.back());
    if (!children.empty()) hold->hide_stops_of(std::move(children));
  }
}

Hold& HeldTree::of(pid_t pid) const {
  for (const auto& hold : holds_)
    if (hold->pid() == pid) return *hold;
  fail(Errc::internal, "process {} is not held", pid);
}

template <class Act>
void HeldTree::children_first(Act act) {
  for (auto it = holds_.rbegin(); it != holds_.rend(); ++it) act(**it);
}

void HeldTree::release() {
  children_first([](Hold& h) { h.release(); });
}

void HeldTree::let_run(const std::set<pid_t>& stopped) {
  children_first([&](Hold& h) { stopped.contains(h.pid()) ? h.let_run() : h.release(); });
}

void HeldTree::leave_stopped() {
  children_first([](Hold& h) { h.leave_stopped(); });
}

void HeldTree::leave_frozen(const Cgroup& cgroup) {
  children_first([&](Hold& h) { h.make_ready_to_freeze(cgroup); });
  cgroup.freeze();
  std::vector<std::pair<pid_t, std::vector<pid_t>>> left;
  children_first([&](Hold& h) {
    left.emplace_back(h.pid(), h.tids());
    h.leave_frozen();
  });
  for (const auto& [pid, tids] : left) cgroup.wait_frozen(pid, tids);
}

void HeldTree::gone() {
  children_first([](Hold& h) { h.gone(); });
}

}  // namespace godwit::engine
