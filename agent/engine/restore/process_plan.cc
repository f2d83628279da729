#include "agent/engine/restore/process_plan.h"

#include "agent/engine/births.h"
#include "agent/engine/resources/terminal_images.h"
#include "common/base/error.h"
#include "common/image/core.pb.h"
#include "common/image/core.pb.h"
#include "common/image/filelock.pb.h"
#include "common/image/inventory.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/task_state.h"
#include "common/image/tty.pb.h"

#include <algorithm>
#include <csignal>
#include <map>
#include <set>

#include <sys/wait.h>

namespace godwit::engine {
namespace {
constexpr std::uint32_t highest_pid = 1u << 22;
constexpr std::uint32_t most_terminals = 1u << 20;
constexpr int most_namespaces = 31;  // below the root's: one of the kernel's 32 is the host's

// CRIU's images only say who shares what.
void plan_births(const image::ImageSet& images, TreePlan& tree, std::uint32_t (image::TaskKobjIdsEntry::*id)() const,
                 bool ProcessPlan::* with_makers, std::string_view what) {
  std::map<std::uint32_t, pid_t> owners;  // by id
  std::vector<Sharer> sharers;
  for (const ProcessPlan& p : tree) {
    const auto pid = static_cast<std::uint64_t>(p.pid);
    pid_t owner = p.pid;
    if (images.has(image::Kind::ids, pid))
      owner =
          owners.try_emplace((images.get<image::TaskKobjIdsEntry>(image::Kind::ids, pid).*id)(), p.pid).first->second;
    sharers.push_back({.pid = p.pid, .parent = p.ppid, .owner = owner});
  }
  const std::vector<Birth> births = births_of(sharers);
  for (std::size_t i = 0; i < tree.size(); ++i) {
    if (births[i] == Birth::out_of_reach)
      fail(Errc::unsupported, "process {} shares a {} that nobody from whom it comes has", tree[i].pid, what);
    tree[i].*with_makers = births[i] == Birth::with_makers;
  }
}

// Says what is wrong, if anything. `tree`: who came before.
const char* read_inner(const image::PstreeEntry& e, const TreePlan& tree, ProcessPlan& p) {
  const auto find = [&](pid_t pid) { return std::ranges::find(tree, pid, &ProcessPlan::pid); };
  for (const image::InnerPid& of : e.inner()) {
    if (of.inner_size() < 1 || of.inner_size() > most_namespaces) return "too many PID namespaces, or none";
    std::vector<pid_t>& names = p.inner[static_cast<pid_t>(of.pid())];
    for (const std::uint32_t name : of.inner()) {
      if (name == 0 || name > highest_pid) return "no PID in its namespace";
      names.push_back(static_cast<pid_t>(name));
    }
  }
  p.init = static_cast<pid_t>(e.pid_namespace());
  const std::size_t depth = p.names_of(p.pid).size();
  const auto parent = find(p.ppid), init = find(p.init);
  const std::size_t of_parent = parent == tree.end() ? 1 : parent->names_of(parent->pid).size();
  if (p.init == 0) return depth == 1 && of_parent == 1 ? nullptr : "it is in no PID namespace";
  if (parent == tree.end()) return "nobody has made its PID namespace";
  if (p.makes_namespace()) {
    if (depth != of_parent + 1 || p.names_of(p.pid).back() != 1) return "it is not the init of its PID namespace";
  } else if (init == tree.end() || parent->init != p.init || depth != of_parent) {
    return "its PID namespace is not its parent's";
  }
  for (const pid_t tid : p.threads)
    if (p.names_of(tid).size() != depth) return "a thread is not in its PID namespace";
  return nullptr;
}

}  // namespace

std::vector<pid_t> ProcessPlan::names_of(pid_t number) const {
  std::vector<pid_t> names{number};
  if (const auto it = inner.find(number); it != inner.end()) std::ranges::copy(it->second, std::back_inserter(names));
  return names;
}

TreePlan read_tree(const image::ImageSet& images) {
  TreePlan tree;
  const auto entries = images.records<image::PstreeEntry>(image::Kind::pstree);
  const auto terminals = images.records<image::TtyInfoEntry>(image::Kind::tty_info);
  const bool terminals_said = std::ranges::any_of(entries, &image::PstreeEntry::has_terminal);  // not by CRIU's
  std::set<std::uint32_t> processes, threads;
  bool said = false;  // with what they are born
  bool nested = false;
  const auto require = [](bool fine, std::uint32_t pid, const char* what) {
    if (!fine) fail(Errc::image_corrupt, "pstree.img: process {}: {}", pid, what);
  };
  for (const image::PstreeEntry& e : entries) {
    require(e.pid() > 0 && e.pid() <= highest_pid, e.pid(), "no PID");
    require(e.pgid() <= highest_pid && e.sid() <= highest_pid, e.pid(), "no process group, or no session");
    require(e.ppid() == 0 || processes.contains(e.ppid()), e.pid(), "its parent does not come before it");
    require(!tree.empty() || e.ppid() == 0, e.pid(), "the first process has a parent");
    require(processes.insert(e.pid()).second, e.pid(), "it is there twice");
    ProcessPlan p{.pid = static_cast<pid_t>(e.pid()),
                  .ppid = static_cast<pid_t>(e.ppid()),
                  .pgid = static_cast<pid_t>(e.pgid()),
                  .sid = static_cast<pid_t>(e.sid()),
                  .threads = {}};
    if (e.has_terminal()) {
      require(e.terminal() < most_terminals, e.pid(), "no terminal has this number");
      p.terminal = static_cast<int>(e.terminal());
    } else if (const auto index = resources::terminal_of_session(e.sid(), terminals);
               !terminals_said && index && *index < most_terminals) {
      p.terminal = static_cast<int>(*index);
    }
    p.with_files = e.born_with_files();
    p.with_fs = e.born_with_fs();
    said = said || e.has_born_with_files();
    if (e.has_memory_of()) {
      p.memory_of = static_cast<pid_t>(e.memory_of());
      p.with_handlers = e.born_with_handlers();
      require(e.memory_of() != e.pid() && processes.contains(e.memory_of()) && p.ppid != 0, e.pid(),
              "nobody who comes before it has the memory that it uses");
    }
    for (const std::uint32_t tid : e.threads()) {
      require(tid > 0 && tid <= highest_pid && threads.insert(tid).second, e.pid(),
              "a thread without a TID of its own");
      p.threads.push_back(static_cast<pid_t>(tid));
    }
    nested = nested || e.has_pid_namespace() || e.inner_size() > 0;
    if (e.has_pid_namespace_for_children()) {
      require(e.pid_namespace_for_children() <= highest_pid, e.pid(), "its children have no PID namespace");
      p.init_of_children = static_cast<pid_t>(e.pid_namespace_for_children());
    }
    if (const char* const wrong = nested ? read_inner(e, tree, p) : nullptr) require(false, e.pid(), wrong);
    p.dead = images.has(image::Kind::core, e.pid()) && is_dead(images, p.pid);
    tree.push_back(std::move(p));
  }
  for (const ProcessPlan& p : tree) {
    const pid_t init = p.init_of_children.value_or(0);
    if (init == 0) continue;
    const auto it = std::ranges::find(tree, init, &ProcessPlan::pid);
    require(it != tree.end() && it->ppid == p.pid && it->makes_namespace(), static_cast<unsigned>(p.pid),
            "the PID namespace of its children is not one that it has made");
  }
  if (tree.empty()) fail(Errc::image_corrupt, "pstree.img is missing or empty");
  if (!said) {
    plan_births(images, tree, &image::TaskKobjIdsEntry::files_id, &ProcessPlan::with_files, "descriptor table");
    plan_births(images, tree, &image::TaskKobjIdsEntry::fs_id, &ProcessPlan::with_fs, "working directory");
  }
  return tree;
}

void correct_ended(image::ImageSet& images) {
  image::ImageSet corrected;
  bool wrong = false;
  for (auto process : images.records<image::PstreeEntry>(image::Kind::pstree)) {
    const std::uint64_t pid = process.pid();
    if (process.threads_size() == 1 && process.threads(0) != pid && images.has(image::Kind::core, pid) &&
        is_dead(images, static_cast<pid_t>(pid))) {
      process.set_threads(0, process.pid());
      wrong = true;
    }
    corrected.append(image::Kind::pstree, 0, process);
  }
  if (!wrong) return;
  for (const auto& [name, bytes] : corrected.files()) images.put_file(name, bytes);
}

bool is_dead(const image::ImageSet& images, pid_t pid) {
  return images.view<image::CoreEntry>(image::Kind::core, static_cast<std::uint64_t>(pid)).tc().task_state() ==
         image::task_state::dead;
}

void check_ends(const image::ImageSet& images, const TreePlan& tree) {
  std::set<pid_t> needed;  // whoever has children, inits for whoever is in their namespaces
  for (const ProcessPlan& p : tree) {
    needed.insert(p.ppid);
    if (!p.makes_namespace()) needed.insert(p.init);
  }
  for (const ProcessPlan& p : tree) {
    if (!p.dead) continue;
    if (needed.contains(p.pid)) fail(Errc::image_corrupt, "process {} has ended, and others need it", p.pid);
    // Of what else would end it an init is not told: a restore would wait for ever.
    const auto& core = images.view<image::CoreEntry>(image::Kind::core, static_cast<std::uint64_t>(p.pid));
    const int status = static_cast<int>(core.tc().exit_code());
    if (p.makes_namespace() && WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
      fail(Errc::image_corrupt, "signal {} ends no init of a PID namespace, as process {} is", WTERMSIG(status), p.pid);
  }
}

void check_locks(const image::ImageSet& images, const TreePlan& tree) {
  for (const auto& lock : images.records<image::FileLockEntry>(image::Kind::file_locks)) {
    const auto owner = std::ranges::find(tree, lock.pid(), &ProcessPlan::pid);
    if (owner == tree.end() || owner->dead)
      fail(Errc::image_corrupt, "filelocks.img: a lock of process {}, which is not there to place it", lock.pid());
  }
}

std::vector<pid_t> ids_of(const TreePlan& tree) {
  std::vector<pid_t> all;
  for (const ProcessPlan& p : tree) {
    all.push_back(p.pid);
    std::ranges::copy(p.threads, std::back_inserter(all));
  }
  return all;
}

}  // namespace godwit::engine
