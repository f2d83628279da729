#include "agent/engine/survey.h"

#include "agent/engine/kinship.h"
#include "agent/engine/memory/mapping_policies.h"
#include "agent/engine/memory/vma_image.h"
#include "agent/engine/numa/policy_text.h"
#include "agent/engine/program.h"
#include "agent/engine/tasks/ipc_objects.h"
#include "agent/engine/tasks/refusals.h"
#include "agent/engine/tasks/ties.h"
#include "common/base/check.h"
#include "common/base/units.h"
#include "common/proc/locks.h"
#include "common/proc/reader.h"

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <future>
#include <map>
#include <set>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

void refuse(Surveyed& out, pid_t pid, std::string what, std::string reason, std::string hint = {},
            std::string option = {}) {
  Refusal& r = *out.add_refusals();
  r.set_pid(pid);
  r.set_what(std::move(what));
  r.set_reason(std::move(reason));
  r.set_hint(std::move(hint));
  r.set_option(std::move(option));
}

// Nothing when the task has unmapped it meanwhile.
UniqueFd open_if_there(pid_t pid, const proc::Vma& vma) {
  try {
    return open_mapped(pid, vma, O_RDONLY);
  } catch (const Error& e) {
    if (e.errc() != Errc::not_found) throw;
    return {};
  }
}

using Inode = std::pair<dev_t, std::uint64_t>;
struct Mapped {
  pid_t pid = 0;
  proc::Vma vma;
};
using SharedMappings = std::map<Inode, Mapped>;  // that somebody outside the tree may have, too

// Born since the tree was looked at: the freeze will find it there.
bool is_below(pid_t pid, const std::vector<pid_t>& tree) {
  for (pid_t one = pid; one > 1; one = proc::Reader(one).stat().ppid)
    if (std::ranges::find(tree, one) != tree.end()) return true;
  return false;
}

// One pass over all processes, however much is shared.
void refuse_mapped_outside(SharedMappings shared, const std::vector<pid_t>& tree, Surveyed& out) {
  for (const pid_t other : proc::all_pids()) {
    if (shared.empty()) return;
    if (other == ::getpid() || std::ranges::find(tree, other) != tree.end()) continue;
    try {
      for (const proc::Vma& v : proc::Reader(other).maps()) {
        const auto found = v.shared ? shared.find({v.dev, v.inode}) : shared.end();
        if (found == shared.end()) continue;
        if (is_below(other, tree)) break;
        const auto& [pid, vma] = found->second;
        refuse(out, pid, fmt::format("memory at {:#x} {}", vma.start, vma.name),
               fmt::format("process {} has it mapped, too", other), "end that process first");
        shared.erase(found);
      }
    } catch (const Error&) {  // it has ended, or may not be looked at
    }
  }
}

// Files, as proc::locked_file() says them, that somebody has a lease for writing on: to open one breaks it.
// For /proc/locks the kernel waits until every CPU has noticed (an RCU grace period, 10 to 20 ms), so it is read once,
// while everything else is looked at.
using Leased = std::shared_future<std::set<std::string>>;
std::set<std::string> leased_for_writing() {
  std::set<std::string> files;
  for (const proc::Lock& lock : proc::parse_locks(read_file("/proc/locks")))
    if (lock.kind == "LEASE" && lock.type == "WRITE") files.insert(lock.file);
  return files;
}

void survey_memory(const std::vector<proc::VmaUsage>& smaps, pid_t pid, const Leased& leased, SharedMappings& shared,
                   Surveyed& out) {
  std::set<std::pair<dev_t, ino_t>> seen;
  for (const proc::VmaUsage& u : smaps) {
    out.set_mapped_bytes(out.mapped_bytes() + u.vma.size());
    out.set_resident_bytes(out.resident_bytes() + u.rss + u.swap);
    if (const auto refused = refuse_vma(u.vma, u.flags))
      refuse(
          out, pid,
          fmt::format("memory at {:#x}-{:#x}{}{}", u.vma.start, u.vma.end, u.vma.name.empty() ? "" : " ", u.vma.name),
          refused->reason, refused->hint);
    if (u.vma.shared && (is_shared_anonymous(u.vma) || is_memfd(u.vma)))
      shared.try_emplace({u.vma.dev, u.vma.inode}, Mapped{pid, u.vma});
    // Of a socket's ring nothing can be opened.
    const bool file = u.vma.kind == proc::VmaName::path && !u.vma.deleted && u.vma.name.starts_with('/');
    if (!file || !seen.insert({u.vma.dev, u.vma.inode}).second) continue;
    if (leased.get().contains(proc::locked_file(u.vma.dev, u.vma.inode))) {
      refuse(out, pid, fmt::format("memory at {:#x} {}", u.vma.start, u.vma.name),
             "a lease for writing is held on the file, which cannot be looked at without breaking it",
             "release the lease before the move", "--file-locks");
      continue;
    }
    const UniqueFd fd = open_if_there(pid, u.vma);
    if (!fd) continue;
    const resources::NeededFile f = resources::describe_file(fd.get(), u.vma.name, resources::BuildId::read);
    NeededFile& n = *out.add_files();
    n.set_path(f.path);
    n.set_size(f.size);
    n.set_mode(f.mode);
    n.set_build_id(f.build_id);
    n.set_writable(u.vma.shared && u.flags.has("mw"));
    n.set_mapped(true);
    n.set_device(f.device);
    n.set_inode(f.inode);
  }
}

// What numa_maps shows at each mapping, by its start: its own policy or, where it has none, that of the first thread.
// Empty in a kernel without NUMA.
using ShownPolicies = std::map<std::uint64_t, std::string>;
ShownPolicies shown_policies(const proc::Reader& proc) {
  if (::faccessat(proc.dir(), "numa_maps", R_OK, 0) != 0) return {};
  std::istringstream lines(proc.text("numa_maps"));
  ShownPolicies shown;
  for (std::string line; std::getline(lines, line);)
    shown.emplace(std::strtoull(line.c_str(), nullptr, 16), numa::shown_policy(line));
  return shown;
}

// Shared memory may have the policy of the thread or one of its own: that shows only where the two differ, else in the
// first stop. The kernel's own mappings, which are the last ones, have none.
void survey_policies(const ShownPolicies& shown, const std::vector<proc::VmaUsage>& smaps, pid_t pid,
                     std::set<std::string>& policies, Surveyed& out) {
  for (const proc::VmaUsage& u : smaps) {
    const auto it = shown.find(u.vma.start);
    if (it == shown.end() || it->second == numa::default_policy) continue;
    const std::string what = fmt::format("memory at {:#x}{}{}", u.vma.start, u.vma.name.empty() ? "" : " ", u.vma.name);
    const std::string& policy = it->second;
    if (!numa::parse_policy(policy))
      refuse(out, pid, what, fmt::format("a NUMA memory policy of this kind ({}) is not carried", policy),
             std::string(no_policies_hint));
    else if (policy != shown.rbegin()->second && policy_of_file(pid, u.vma))
      refuse(out, pid, what, fmt::format(fmt::runtime(no_shared_policies), policy), std::string(no_policies_hint));
    else
      policies.insert(policy);
  }
}

void set_name(const resources::BoundName& from, BoundName& name) {
  name.set_path(from.path);
  name.set_inode(from.inode);
  name.set_changed_ns(from.changed_ns);
}

void survey_fds(pid_t pid, const resources::Options& options, const resources::TreeFiles& tree, Surveyed& out) {
  const resources::FdSurvey s = resources::survey_fds(pid, options, tree);
  for (const resources::Refusal& r : s.refusals) refuse(out, pid, r.what, r.reason, r.hint, r.option);
  for (const std::string& notice : s.notices) out.add_notices(notice);
  for (const std::string& listening : s.listening) out.add_listening(listening);
  for (const resources::BoundName& b : s.bound) set_name(b, *out.add_bound());
  for (const resources::BoundName& b : s.locked) set_name(b, *out.add_locked());
  for (const resources::NeededFile& f : s.files) {
    NeededFile& n = *out.add_files();
    n.set_path(f.path);
    n.set_size(f.size);
    n.set_mode(f.mode);
    n.set_build_id(f.build_id);
    n.set_writable(f.writable);
    n.set_device(f.device);
    n.set_inode(f.inode);
  }
}

void describe_task(const proc::Reader& proc, pid_t pid, std::size_t level, Surveyed& out) {
  const proc::Status status = proc.status();
  Task& task = *out.add_tasks();
  task.set_pid(pid);
  task.set_guest_pid(proc::at_level(status.ns_pid, level, pid));
  task.set_comm(proc.comm());
  task.set_uid(status.uid.effective);
  task.set_start_time(proc.stat().start_time);
  for (const pid_t tid : proc.threads()) {
    try {
      const proc::Status s = proc::Reader(pid, tid).status();
      task.add_threads(proc::at_level(s.ns_pid, level, tid));
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone || tid == pid) throw;  // a thread may end while we look
    }
  }
}

// What all looks at the processes of a tree have in common.
struct TreeLook {
  const resources::Options& options;
  const resources::TreeFiles& files;
  Leased leased;
  std::set<pid_t> without_memory;  // they use that of others of the tree
  SharedMappings shared;
  std::set<std::string> numa_policies;
  MemoriesSeen seen;
};

// Both files take the kernel 12 to 30 ms per GiB, so they are read side by side.
MemoriesSeen::Memory look_at_memory(const proc::Reader& proc, pid_t pid, TreeLook& look, Surveyed& out) {
  std::future<ShownPolicies> shown = std::async(std::launch::async, [&] { return shown_policies(proc); });
  MemoriesSeen::Memory seen{.program = program_of(pid), .smaps = proc.smaps(), .at_ns = monotonic_ns()};
  survey_memory(seen.smaps, pid, look.leased, look.shared, out);
  const ShownPolicies policies = shown.get();
  for (const auto& [start, policy] : policies)
    if (policy != numa::default_policy) seen.placed.insert(start);
  survey_policies(policies, seen.smaps, pid, look.numa_policies, out);
  return seen;
}

void survey_process(pid_t pid, TreeLook& look, Surveyed& out) {
  const proc::Reader proc(pid);
  if (pid != out.tasks(0).pid() && is_zombie(pid)) return;  // since just now
  tasks::Refusals found = tasks::refusals_of(proc, pid);
  look.numa_policies.merge(found.numa_policies);
  for (const tasks::Refusal& r : found.refusals) refuse(out, pid, r.what, r.reason, r.hint, r.option);
  for (const std::string& notice : found.notices) out.add_notices(notice);
  for (const std::string& notice : tasks::notices_of_ipc(proc, pid)) out.add_notices(notice);
  if (pid == out.tasks(0).pid())
    for (const std::string& name : found.namespaces) out.add_namespaces(name);
  for (const auto& more : {tasks::ties_to_others(proc, pid, look.files.tree), tasks::ties_of_threads(proc, pid),
                           tasks::refuse_ipc_objects({pid})})
    for (const tasks::Refusal& r : more) refuse(out, pid, r.what, r.reason, r.hint, r.option);
  if (!look.without_memory.contains(pid)) look.seen.of[pid] = look_at_memory(proc, pid, look, out);
  survey_fds(pid, look.options, look.files, out);
}

// Calls look(pid) for all that are still there; the root has to be.
template <class Look>
void for_each_living(const std::vector<Relative>& tree, Look look) {
  for (const Relative& r : tree) {
    if (r.dead && &r != &tree.front()) continue;
    try {
      look(r.host);
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone || &r == &tree.front()) throw;
    }
  }
}

bool has_outer_terminal(const Relative& r, const resources::TreeFiles& files) {
  return r.kin.terminal >= 0 && files.outer_terminals.contains(static_cast<unsigned>(r.kin.terminal));
}

// `gets_another`: that of whoever restores the tree.
void notice_session(const Relative& root, bool gets_another, Surveyed& out) {
  const bool leads = root.kin.session == root.pid;
  if (leads != gets_another) return;
  out.add_notices(fmt::format("process {} ({}): it will {}", root.host, out.tasks(0).comm(),
                              leads ? "not lead its session any more" : "be the leader of a session of its own"));
}

Surveyed look_once(pid_t root, Orphans orphans, const resources::Options& options, MemoriesSeen& seen) {
  Surveyed out;
  Leased leased = std::async(std::launch::async, leased_for_writing);
  const std::vector<Relative> tree = relatives_of(tree_of(root, orphans));
  std::vector<pid_t> living;
  const std::size_t level = tree.front().level;
  for_each_living(tree, [&](pid_t pid) {
    describe_task(proc::Reader(pid), pid, level, out);
    living.push_back(pid);
  });
  for (const tasks::Refusal& r : refuse_kinship(tree)) refuse(out, root, r.what, r.reason, r.hint, r.option);
  const resources::TreeFiles files = resources::look_at_files(living);
  notice_session(tree.front(), options.shell_job && has_outer_terminal(tree.front(), files), out);
  TreeLook look{.options = options,
                .files = files,
                .leased = std::move(leased),
                .without_memory = {},
                .shared = {},
                .numa_policies = {},
                .seen = {}};
  for (const Relative& r : tree)
    if (r.kin.memory != 0) look.without_memory.insert(r.host);
  for_each_living(tree, [&](pid_t pid) { survey_process(pid, look, out); });
  refuse_mapped_outside(std::move(look.shared), living, out);
  for (const std::string& policy : look.numa_policies) out.add_numa_policies(policy);
  seen = std::move(look.seen);
  out.set_xfeatures(tasks::enabled_xfeatures());
  out.set_tracker(tasks::tracker_backend());
  return out;
}

bool same_refusals(const Surveyed& a, const Surveyed& b) {
  return std::ranges::equal(a.refusals(), b.refusals(), [](const Refusal& x, const Refusal& y) {
    return x.pid() == y.pid() && x.what() == y.what() && x.reason() == y.reason();
  });
}

}  // namespace

// In a running tree processes come and go while it is looked at, and a pipe may seem to lead out of it. What is refused
// is what another look refuses, too.
Surveyed survey(pid_t root, Orphans orphans, const resources::Options& options, MemoriesSeen* seen) {
  constexpr int most_looks = 10;
  Doing doing("looking at process {}", root);
  MemoriesSeen memories;
  Surveyed found = look_once(root, orphans, options, memories);
  for (int looks = 1; !found.refusals().empty() && looks < most_looks; looks++) {
    Surveyed again = look_once(root, orphans, options, memories);
    const bool same = same_refusals(found, again);
    found = std::move(again);
    if (same) break;
  }
  if (seen) *seen = std::move(memories);
  return found;
}

}  // namespace godwit::engine
