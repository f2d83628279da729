#include "agent/engine/kinship.h"

#include "agent/engine/resources/pseudo_terminal.h"
#include "agent/engine/ptrace/sharing.h"
#include "common/base/error.h"
#include "common/image/pstree.pb.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <csignal>
#include <functional>
#include <map>
#include <string_view>

#include <linux/kcmp.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

// Its own, its parent's, or one that an ancestor has come from.
bool can_be_born_into(const std::vector<Relative>& tree, const Relative& r) {
  const pid_t session = r.kin.session;
  if (session == r.pid || session == tree.front().kin.session) return true;
  if (r.kin.parent == 0) return session != 0;
  for (const Relative* above = find(tree, r.kin.parent); above; above = find(tree, above->kin.parent))
    if (session == above->pid || session == above->kin.session) return true;
  return false;
}

int terminal_of(pid_t pid) {
  const auto index = resources::pseudo_terminal::index_of(proc::Reader(pid).stat().tty);
  return index ? static_cast<int>(*index) : -1;
}

// A terminal is inherited: only the leader of a session can get one by itself.
bool can_have_terminal(const std::vector<Relative>& tree, const Relative& r) {
  if (r.kin.terminal < 0 || r.kin.session == r.pid) return true;
  const Relative* const from = find(tree, r.kin.parent != 0 ? r.kin.parent : r.kin.session);
  return from == nullptr || from->kin.terminal == r.kin.terminal;
}

// Of each the first one of the tree, by the PID that the tree knows, that has the same object.
std::vector<pid_t> owners(const std::vector<Relative>& tree, int kind) {
  std::vector<pid_t> living;
  for (const Relative& r : tree)
    if (!r.dead) living.push_back(r.host);
  const std::vector<pid_t> first = first_sharers(living, kind);
  std::vector<pid_t> owners;
  auto next = first.begin();
  for (const Relative& r : tree)
    owners.push_back(r.dead ? r.pid : std::ranges::find(tree, *next++, &Relative::host)->pid);
  return owners;
}

void find_shared(std::vector<Relative>& tree, int kind, pid_t Relative::* owner, Birth Kinship::* birth) {
  const std::vector<pid_t> found = owners(tree, kind);
  std::vector<Sharer> sharers;
  for (std::size_t i = 0; i < tree.size(); ++i) {
    tree[i].*owner = found[i];
    sharers.push_back({.pid = tree[i].pid, .parent = tree[i].kin.parent, .owner = found[i]});
  }
  const std::vector<Birth> births = births_of(sharers);
  for (std::size_t i = 0; i < tree.size(); ++i) tree[i].kin.*birth = births[i];
}

// Handlers of signals can only be shared by those who share memory.
void find_memory(std::vector<Relative>& tree) {
  const std::vector<pid_t> memories = owners(tree, KCMP_VM);
  bool shared = false;
  for (std::size_t i = 0; i < tree.size(); ++i) {
    Relative& r = tree[i];
    r.memory = memories[i];
    r.handlers = r.pid;
    if (r.memory != r.pid) r.kin.memory = r.memory;
    shared = shared || r.kin.memory != 0;
  }
  if (!shared) return;
  const std::vector<pid_t> handlers = owners(tree, KCMP_SIGHAND);
  for (std::size_t i = 0; i < tree.size(); ++i) {
    Relative& r = tree[i];
    r.handlers = handlers[i];
    const Relative* const parent = r.kin.memory != 0 ? find(tree, r.kin.parent) : nullptr;
    r.kin.handlers = parent != nullptr && parent->handlers == r.handlers;
  }
}

// Why it cannot be made with the memory that it shares, or without that of its parent; empty: it can. Memory is
// inherited and cannot be left, and who shares it is made last (restore/family.h).
std::string refuse_memory(const std::vector<Relative>& tree, const Relative& r) {
  const Relative* const parent = find(tree, r.kin.parent);
  if (r.kin.memory == 0) {
    if (r.dead) return {};
    const Relative* const leader = find(tree, r.kin.session);
    for (const Relative* const before : {parent, leader})
      if (before && before->kin.memory != 0)
        return fmt::format("process {}, who has to be there before it, uses the memory of process {}", before->host,
                           find(tree, before->kin.memory)->host);
    return {};
  }
  const auto shares = [&](const char* what) {
    return fmt::format("it uses the memory of process {}, too, {}", find(tree, r.memory)->host, what);
  };
  if (!parent || parent->memory != r.memory) return shares("which is not its parent's");
  if (r.handlers != r.pid && !r.kin.handlers) return shares("and signal handlers that are not its parent's");
  if (r.kin.session != r.pid && r.kin.session != parent->kin.session)
    return shares("in an older session than its parent's");
  return {};
}

}  // namespace

const Relative* find(const std::vector<Relative>& tree, pid_t pid) {
  const auto it = std::ranges::find(tree, pid, &Relative::pid);
  return it == tree.end() ? nullptr : &*it;
}

std::vector<Relative> relatives_of(const std::vector<TreeMember>& tree) {
  std::map<pid_t, pid_t> guests;  // by host PID
  std::vector<Relative> found;
  std::vector<proc::Status> statuses;
  std::size_t level = 0;  // of the root's namespace
  for (const TreeMember& m : tree) {
    try {
      proc::Status s = proc::Reader(m.pid).status();
      if (found.empty() && !s.ns_pid.empty()) level = s.ns_pid.size() - 1;
      guests[m.pid] = proc::at_level(s.ns_pid, level, m.pid);
      // Whoever has lost his parent since the tree was looked at has been adopted by then.
      const auto parent = guests.find(m.parent == 0 || guests.contains(m.parent) ? m.parent : s.ppid);
      found.push_back({.host = m.pid,
                       .pid = guests[m.pid],
                       .kin = {.parent = parent == guests.end() ? 0 : parent->second,
                               .session = proc::at_level(s.ns_sid, level, 0),
                               .terminal = m.dead ? -1 : terminal_of(m.pid)},
                       .pgid = proc::at_level(s.ns_pgid, level, 0),
                       .dead = m.dead,
                       .level = level,
                       .nested = {}});
      statuses.push_back(std::move(s));
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone || found.empty()) throw;
    }
  }
  find_nested(found, statuses);
  const auto of_parent = [](const Relative& r) { return r.kin.session == r.kin.parent; };
  std::vector<Relative> sorted;
  for (auto it = found.begin(); it != found.end();) {  // children of one parent stand together
    const auto end = std::find_if(it, found.end(), [&](const Relative& r) { return r.kin.parent != it->kin.parent; });
    std::copy_if(it, end, std::back_inserter(sorted), std::not_fn(of_parent));
    std::copy_if(it, end, std::back_inserter(sorted), of_parent);
    it = end;
  }
  find_shared(sorted, KCMP_FILES, &Relative::files, &Kinship::files);
  find_shared(sorted, KCMP_FS, &Relative::fs, &Kinship::fs);
  find_memory(sorted);
  return sorted;
}

pid_t name_of(const Relative& relative, const Relative& other) {
  const std::size_t depth = other.nested.own.size();
  return depth == 0 ? relative.pid : relative.nested.own.at(depth - 1);
}

std::vector<tasks::Refusal> refuse_kinship(const std::vector<Relative>& tree) {
  std::vector<tasks::Refusal> refusals;
  const Relative& root = tree.front();
  std::map<std::string, std::string> of_root;  // namespace -> its link
  for (const Relative& r : tree) {
    const auto refuse = [&](std::string reason, std::string hint) {
      refusals.push_back(
          {fmt::format("process {} ({})", r.host, proc::Reader(r.host).comm()), std::move(reason), std::move(hint)});
    };
    try {
      if (!can_be_born_into(tree, r))
        refuse(fmt::format("it is in session {}, into which nobody above it was born", r.kin.session),
               "end it, or the program that adopted it");
      if (!can_have_terminal(tree, r))
        refuse("it has a controlling terminal that its parent has given up", "end it, or start it anew");
      for (const auto& [birth, name] : {std::pair(r.kin.files, "descriptors"), {r.kin.fs, "working directory"}})
        if (birth == Birth::out_of_reach)
          refuse(fmt::format("nobody from whom it comes has the {} that it shares with another process", name),
                 "end it first");
      if (std::string reason = refuse_memory(tree, r); !reason.empty()) refuse(std::move(reason), "end it first");
      for (const std::string& reason : r.nested.reasons) refuse(reason, "end it, or move it by itself");
      if (r.dead || &r == &root) continue;
      const proc::Reader proc(r.host);
      if (r.kin.parent != 0)
        if (const int told_by = proc.stat().exit_signal; told_by != SIGCHLD)
          refuse(fmt::format("its parent is told of its end by signal {}", told_by),
                 "only fork and posix_spawn are carried, not clone with another signal");
      // Not of PIDs: nested_pids.h.
      for (const char* ns : {"mnt", "net", "uts", "ipc", "cgroup", "time", "user"}) {
        const std::string path = fmt::format("ns/{}", ns);
        if (!of_root.contains(ns)) of_root[ns] = proc::Reader(root.host).link(path);
        if (proc.link(path) != of_root[ns])
          refuse(fmt::format("it is in another {} namespace than process {}", ns, root.host),
                 "containers in a workload cannot be moved");
      }
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone || &r == &root) throw;
    }
  }
  return refusals;
}

image::PstreeEntry pstree_entry(const Relative& r) {
  image::PstreeEntry entry;
  entry.set_pid(static_cast<std::uint32_t>(r.pid));
  entry.set_ppid(static_cast<std::uint32_t>(r.kin.parent));
  entry.set_pgid(static_cast<std::uint32_t>(r.pgid));
  entry.set_sid(static_cast<std::uint32_t>(r.kin.session));
  if (r.kin.terminal >= 0) entry.set_terminal(static_cast<std::uint32_t>(r.kin.terminal));
  entry.set_born_with_files(r.kin.files == Birth::with_makers);
  entry.set_born_with_fs(r.kin.fs == Birth::with_makers);
  if (r.kin.memory != 0) {
    entry.set_memory_of(static_cast<std::uint32_t>(r.kin.memory));
    entry.set_born_with_handlers(r.kin.handlers);
  }
  describe(r.nested, r.pid, r.pgid, entry);
  entry.add_threads(static_cast<std::uint32_t>(r.pid));
  return entry;
}

image::ImageSet tree_image(const std::vector<Relative>& tree) {
  image::ImageSet images;
  for (const Relative& r : tree) {
    images.append(image::Kind::pstree, 0, pstree_entry(r));
  }
  return images;
}

}  // namespace godwit::engine
