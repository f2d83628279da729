#include "agent/engine/ptrace/held_tree.h"

#include "agent/engine/ptrace/sharing.h"
#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/proc/reader.h"

#include <algorithm>

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

// A thread in vfork(2) does not stop before its child runs another program. One that never does is no passing matter.
void refuse_borrowed_memory(pid_t pid) {
  for (const pid_t child : proc::Reader(pid).children())
    if (::syscall(SYS_kcmp, pid, child, KCMP_VM, 0, 0) == 0)
      throw Error(Errc::refused, fmt::format("process {} uses the memory of process {}, too", child, pid),
                  "a child of vfork is carried once it runs another program: end it first");
}

}  // namespace

HeldTree::HeldTree(pid_t root, Orphans orphans, Journal& journal, const CallsOf& calls, const HoldOptions& options,
                   std::set<pid_t> only)
    : parent_(options.still, options.limit), root_(root), orphans_(orphans), only_(std::move(only)) {
  for (const TreeMember& m : tree_of(root_, orphans_))
    if (m.dead) zombies_.insert(m.pid);
  try {
    hold_all(journal, calls, options);
    find_shared_memory();
    forget_child_stops();
  } catch (...) {
    try {
      forget_child_stops();
    } catch (const std::exception& e) {
      log::warn("hold.child_stops", {{"error", e.what()}});
    }
    while (!holds_.empty()) holds_.pop_back();
    throw;
  }
}

HeldTree::~HeldTree() {
  while (!holds_.empty()) holds_.pop_back();
}

void HeldTree::look() {
  members_ = tree_of(root_, orphans_);
  if (only_.empty()) return;
  std::set<pid_t> wanted = only_;
  for (auto it = members_.rbegin(); it != members_.rend(); ++it)
    if (wanted.contains(it->pid)) wanted.insert(it->parent);
  std::erase_if(members_, [&](const TreeMember& m) { return !wanted.contains(m.pid); });
}

// Some can neither be held nor are they zombies: on their way out, or their first thread has ended before the others.
void HeldTree::hold_all(Journal& journal, const CallsOf& calls, const HoldOptions& options) {
  const auto limit = static_cast<std::uint64_t>(std::chrono::nanoseconds(options.limit).count());
  std::uint64_t progress = monotonic_ns();
  for (std::size_t held = 0; hold_new(journal, calls, options); held = holds_.size()) {
    if (holds_.size() != held) progress = monotonic_ns();
    if (monotonic_ns() - progress > limit) fail(Errc::busy, "a process of the tree does not stop, nor does it end");
  }
}

// Whoever is not held yet. False: all are, and none of them can make another one.
bool HeldTree::hold_new(Journal& journal, const CallsOf& calls, const HoldOptions& options) {
  look();
  bool found = false;
  for (const TreeMember& m : members_) {
    if (m.dead || std::ranges::any_of(holds_, [&](const auto& h) { return h->pid() == m.pid; })) continue;
    found = true;
    try {
      holds_.push_back(std::make_unique<Hold>(m.pid, journal, calls(m.pid), options));
    } catch (const Error& e) {
      if (e.errc() == Errc::timed_out) refuse_borrowed_memory(m.pid);
      if (e.errc() != Errc::target_gone || m.pid == root_) throw;
    }
  }
  return found;
}

void HeldTree::find_shared_memory() {
  std::vector<pid_t> pids;
  for (const auto& hold : holds_) pids.push_back(hold->pid());
  const std::vector<pid_t> first = first_sharers(pids, KCMP_VM);
  for (std::size_t i = 0; i < pids.size(); ++i) {
    if (first[i] == pids[i]) continue;
    of(first[i]).share_memory();
    holds_[i]->share_memory();
  }
}

void HeldTree::forget_child_stops() {
  std::size_t of_tree = 0;
  // As its parent knows it, who may be outside of its PID namespace.
  const auto name_of = [&](const TreeMember& m) {
    const std::vector<pid_t> ids = proc::Reader(m.pid).status().ns_pid;
    if (of_tree == 0) of_tree = proc::Reader(root_).status().ns_pid.size();
    const std::size_t known = ids.size() == of_tree ? of_tree : proc::Reader(m.parent).status().ns_pid.size();
    return proc::at_level(ids, known - 1, m.pid);
  };
  for (const auto& hold : holds_) {
    std::set<pid_t> children;
    for (const TreeMember& m : members_)
      if (m.parent == hold->pid() && !m.dead) children.insert(name_of(m));
    if (!children.empty()) hold->hide_stops_of(std::move(children), zombies_);
  }
}

Hold* HeldTree::find(pid_t pid) const {
  const auto it = std::ranges::find_if(holds_, [&](const auto& hold) { return hold->pid() == pid; });
  return it == holds_.end() ? nullptr : it->get();
}

Hold& HeldTree::of(pid_t pid) const {
  Hold* const hold = find(pid);
  if (!hold) fail(Errc::internal, "process {} is not held", pid);
  return *hold;
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
  std::vector<pid_t> all;
  for (const auto& hold : holds_) all.push_back(hold->pid());
  cgroup.add(all);
  children_first([](Hold& h) { h.make_ready_to_freeze(); });
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
