#include "agent/engine/restore/process_plan.h"

#include "agent/engine/births.h"
#include "common/base/error.h"
#include "common/image/core.pb.h"
#include "common/image/inventory.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/tty.pb.h"

#include <algorithm>
#include <map>
#include <set>

namespace godwit::engine {
namespace {
constexpr std::uint32_t dead = 2;  // TaskCoreEntry.task_state
constexpr std::uint32_t highest_pid = 1u << 22;
constexpr std::uint32_t most_terminals = 1u << 20;

// In CRIU's images, which do not say it of each process.
std::map<std::uint32_t, int> terminals_of_sessions(const image::ImageSet& images) {
  std::map<std::uint32_t, int> found;
  const auto processes = images.records<image::PstreeEntry>(image::Kind::pstree);
  if (std::ranges::any_of(processes, &image::PstreeEntry::has_terminal)) return found;
  for (const auto& info : images.records<image::TtyInfoEntry>(image::Kind::tty_info))
    if (info.type() == image::TTY_PTY && info.sid() != 0 && info.pty().index() < most_terminals)
      found[info.sid()] = static_cast<int>(info.pty().index());
  return found;
}

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

}  // namespace

TreePlan read_tree(const image::ImageSet& images) {
  TreePlan tree;
  const std::map<std::uint32_t, int> terminals = terminals_of_sessions(images);
  std::set<std::uint32_t> processes, threads;
  bool said = false;  // with what they are born
  const auto require = [](bool fine, std::uint32_t pid, const char* what) {
    if (!fine) fail(Errc::image_corrupt, "pstree.img: process {}: {}", pid, what);
  };
  for (const auto& e : images.records<image::PstreeEntry>(image::Kind::pstree)) {
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
    } else if (const auto at = terminals.find(e.sid()); at != terminals.end()) {
      p.terminal = at->second;
    }
    p.with_files = e.born_with_files();
    p.with_fs = e.born_with_fs();
    said = said || e.has_born_with_files();
    for (const std::uint32_t tid : e.threads()) {
      require(tid > 0 && tid <= highest_pid && threads.insert(tid).second, e.pid(),
              "a thread without a TID of its own");
      p.threads.push_back(static_cast<pid_t>(tid));
    }
    tree.push_back(std::move(p));
  }
  if (tree.empty()) fail(Errc::image_corrupt, "pstree.img is missing or empty");
  if (!said) {
    plan_births(images, tree, &image::TaskKobjIdsEntry::files_id, &ProcessPlan::with_files, "descriptor table");
    plan_births(images, tree, &image::TaskKobjIdsEntry::fs_id, &ProcessPlan::with_fs, "working directory");
  }
  return tree;
}

bool is_dead(const image::ImageSet& images, pid_t pid) {
  return images.get<image::CoreEntry>(image::Kind::core, static_cast<std::uint64_t>(pid)).tc().task_state() == dead;
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
