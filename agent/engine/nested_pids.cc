#include "agent/engine/nested_pids.h"

#include "agent/engine/kinship.h"
#include "agent/engine/tasks/ties.h"
#include "common/base/error.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <iterator>

#include <sys/wait.h>

namespace godwit::engine {
namespace {

bool is_nested(const Relative& r) { return !r.nested.own.empty(); }
bool is_init(const Relative& r) { return is_nested(r) && r.nested.init == r.pid; }

// Who is as deep as his parent is in the same namespace: nobody comes into one that does not lie below his own.
void find_init(const std::vector<Relative>& tree, Relative& r) {
  NestedPids& n = r.nested;
  const Relative* const parent = find(tree, r.kin.parent);
  if (!parent) {
    n.reasons.push_back("it is in a PID namespace below that of the tree, and its parent has ended");
  } else if (is_nested(*parent) && parent->nested.init == 0) {  // refused itself
  } else if (n.own.size() == parent->nested.own.size()) {
    n.init = parent->nested.init;
  } else if (n.own.back() == 1 && n.own.size() == parent->nested.own.size() + 1) {
    n.init = r.pid;
  } else {
    n.reasons.push_back("its parent is outside of its PID namespace, of which it is not the init");
  }
}

// A group of outside can neither be joined from inside nor be made anew there, only be inherited.
void look_at_group(const std::vector<Relative>& tree, Relative& r) {
  if (r.nested.group.size() >= r.nested.own.size()) return;
  const Relative* const init = find(tree, r.nested.init);
  if (r.pgid != tree.front().pgid && !find(tree, r.pgid))
    r.nested.reasons.push_back(
        fmt::format("it is in process group {}, from outside of its PID namespace, whose leader has ended", r.pgid));
  else if (init && init->pgid != r.pgid)
    r.nested.reasons.push_back(
        fmt::format("it is in process group {}, from outside of its PID namespace, whose init is not", r.pgid));
}

// What else would end an init does not, when it is sent from outside.
void look_at_end(Relative& r) {
  try {
    const int status = proc::Reader(r.host).stat().exit_code;
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
      r.nested.reasons.push_back(fmt::format("signal {} has ended it, the init of a PID namespace", WTERMSIG(status)));
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone) throw;  // its parent has waited for it
  }
}

// Empty: the process has ended. Of a namespace that has no init yet there is no link.
std::string link_of(pid_t pid, const char* ns, std::string_view otherwise) {
  try {
    return proc::Reader(pid).link(ns);
  } catch (const Error& e) {
    if (e.errc() == Errc::not_found) return std::string(otherwise);
    if (e.errc() != Errc::target_gone) throw;
    return {};
  }
}

void find_namespace_of_children(const std::vector<Relative>& tree, const std::string& of_root, Relative& r) {
  constexpr const char* pid = "ns/pid";
  const std::string link = link_of(r.host, "ns/pid_for_children", "none");
  if (link.empty() || link == (is_nested(r) ? link_of(r.host, pid, {}) : of_root)) return;
  if (link == "none") {
    r.nested.children = 0;
    return;
  }
  for (const Relative& child : tree)
    if (child.kin.parent == r.pid && is_init(child) && !child.dead && link_of(child.host, pid, {}) == link) {
      r.nested.children = child.pid;
      return;
    }
  r.nested.reasons.push_back("its children would live in another pid namespace, whose init is not one of them");
}

void add(const InnerPids& inner, pid_t pid, image::PstreeEntry& entry) {
  if (inner.empty()) return;
  image::InnerPid& added = *entry.add_inner();
  added.set_pid(static_cast<std::uint32_t>(pid));
  for (const pid_t number : inner) added.add_inner(static_cast<std::uint32_t>(number));
}

}  // namespace

InnerPids below(const std::vector<pid_t>& ids, std::size_t level) {
  InnerPids inner;
  for (std::size_t i = level + 1; i < ids.size() && ids[i] != 0; i++) inner.push_back(ids[i]);
  return inner;
}

void find_nested(std::vector<Relative>& tree, const std::vector<proc::Status>& statuses) {
  for (std::size_t i = 0; i < tree.size(); i++) {
    tree[i].nested.own = below(statuses[i].ns_pid, tree[i].level);
    tree[i].nested.group = below(statuses[i].ns_pgid, tree[i].level);
  }
  const std::string of_root = link_of(tree.front().host, "ns/pid", {});
  for (Relative& r : tree) {
    if (is_nested(r)) {
      find_init(tree, r);
      look_at_group(tree, r);
      if (is_init(r) && r.dead) look_at_end(r);
    }
  }
  for (Relative& r : tree)
    if (!r.dead) find_namespace_of_children(tree, of_root, r);
}

std::vector<tasks::Refusal> refuse_births_of_threads(const std::vector<Relative>& tree) {
  std::vector<tasks::Refusal> refusals;
  for (const Relative& r : tree) {
    if (r.dead || !(is_nested(r) || r.nested.children)) continue;
    try {
      std::ranges::move(tasks::births_of_threads(proc::Reader(r.host), r.host), std::back_inserter(refusals));
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone || &r == &tree.front()) throw;
    }
  }
  return refusals;
}

void describe(const NestedPids& nested, pid_t pid, pid_t pgid, image::PstreeEntry& entry) {
  if (nested.children) entry.set_pid_namespace_for_children(static_cast<std::uint32_t>(*nested.children));
  if (nested.init == 0) return;
  entry.set_pid_namespace(static_cast<std::uint32_t>(nested.init));
  add(nested.own, pid, entry);
  if (pgid != pid) add(nested.group, pgid, entry);
}

void describe_thread(const InnerPids& inner, pid_t tid, image::PstreeEntry& entry) { add(inner, tid, entry); }

}  // namespace godwit::engine
