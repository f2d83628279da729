#include "agent/engine/resources/fd_walk.h"

#include "agent/engine/resources/descriptor_limit.h"
#include "agent/engine/resources/fd_kinds.h"
#include "agent/engine/resources/file_locks.h"
#include "agent/engine/resources/fown.h"
#include "agent/engine/resources/pidfd.h"
#include "agent/engine/resources/pseudo_terminal.h"
#include "agent/engine/resources/terminal.h"

#include <algorithm>

#include <sys/stat.h>
#include <sys/sysmacros.h>

namespace godwit::engine::resources {
namespace {

unsigned access_of(std::uint32_t flags) {
  switch (flags & O_ACCMODE) {
    case O_RDONLY: return held_for_reading;
    case O_WRONLY: return held_for_writing;
    default: return held_for_reading | held_for_writing;
  }
}

// Calls use(number, link) for each descriptor of a process that may end meanwhile, or that we may not look at.
template <class Use>
void for_each_link(pid_t pid, Use use) {
  try {
    const proc::Reader proc(pid);
    for (const int number : proc.fds()) {
      try {
        use(number, proc.fd_link(number));
      } catch (const Error& e) {
        if (e.sys_errno() != ENOENT) throw;
      }
    }
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone && e.sys_errno() != EACCES && e.sys_errno() != EPERM) throw;
  }
}

}  // namespace

FdWalk walk_fds(const proc::Reader& proc, pid_t pid, int pidfd) {
  raise_descriptor_limit();
  FdWalk walk;
  for (const int number : proc.fds()) {
    std::optional<OwnedFdView> owned = view_fd(proc, pid, pidfd, number);
    if (!owned) continue;
    walk.views.push_back(std::move(owned->view));
    walk.copies.push_back(std::move(owned->copy));
    walk.kinds.push_back(kind_of(walk.views.back()));
  }
  return walk;
}

void add_held(const FdWalk& walk, std::map<std::string, unsigned>& held) {
  for (const FdView& view : walk.views) {
    const bool fifo = S_ISFIFO(view.st.st_mode) && (view.info.flags & O_PATH) == 0;
    if (terminal::matches(view)) terminal::add_held(view, held);
    if (fifo || view.socket) held[view.link] |= access_of(view.info.flags);
  }
}

// The terminal behind a descriptor of a process that does not belong to the tree.
std::optional<pseudo_terminal::Name> terminal_of(pid_t pid, int number, const std::string& link) {
  namespace pty = pseudo_terminal;
  if (!link.starts_with("/dev/pt")) return std::nullopt;
  struct stat st{};
  if (::stat(fmt::format("/proc/{}/fd/{}", pid, number).c_str(), &st) != 0) return std::nullopt;
  if (pty::is_slave(st)) return pty::Name{.index = minor(st.st_rdev), .instance = st.st_dev};
  if (!pty::is_master(st)) return std::nullopt;
  const UniqueFd pidfd(pidfd_open(pid));
  const UniqueFd copy(pidfd ? pidfd_getfd(pidfd.get(), number) : -1);
  return copy ? pty::name_of(copy.get(), st) : std::nullopt;
}

TreeFiles look_at_files(std::span<const pid_t> tree) {
  std::map<unsigned, dev_t> terminals;
  TreeFiles files;
  files.tree.assign(tree.begin(), tree.end());
  for (const pid_t pid : tree) {
    try {
      const UniqueFd pidfd(check(pidfd_open(pid), "open task {}", pid));
      const FdWalk walk = walk_fds(proc::Reader(pid), pid, pidfd.get());
      add_held(walk, files.held);
      for (const FdView& view : walk.views)
        if (terminal::matches(view))
          if (const auto name = pseudo_terminal::name_of(view.fd, view.st); name && name->instance != 0)
            terminals[name->index] = name->instance;
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone && e.sys_errno() != ESRCH) throw;
    }
  }
  if (files.held.empty()) return files;
  for (const pid_t other : proc::all_pids()) {
    if (other == ::getpid() || std::ranges::find(tree, other) != tree.end()) continue;  // we hold copies ourselves
    for_each_link(other, [&](int number, const std::string& link) {
      if (files.held.contains(link)) files.outside.try_emplace(link, other);
      if (terminals.empty()) return;
      const auto name = terminal_of(other, number, link);
      if (!name) return;
      if (const auto at = terminals.find(name->index); at != terminals.end() && at->second == name->instance)
        files.outside.try_emplace(pseudo_terminal::key_of(name->index), other);
    });
  }
  return files;
}

std::vector<Refusal> refusals_of(const FdWalk& walk, SurveyContext& context) {
  std::vector<Refusal> refusals;
  for (std::size_t i = 0; i < walk.views.size(); ++i) {
    const FdView& view = walk.views[i];
    const Doing doing("fd {}", view.number);
    const FdKind* kind = walk.kinds[i];
    if (kind == nullptr) {
      refusals.push_back(refuse_unknown(view));
      continue;
    }
    if (std::optional<Refusal> refused = file_locks::refusal(view, context)) refusals.push_back(std::move(*refused));
    if (std::optional<Refusal> refused = refuse_fown(view, context.tree)) refusals.push_back(std::move(*refused));
    if (std::optional<Refusal> refused = kind->refusal(view, context)) refusals.push_back(std::move(*refused));
  }
  if (std::optional<Refusal> refused = terminal::controlling_refusal(proc::Reader(context.pid).stat(), context))
    refusals.push_back(std::move(*refused));
  return refusals;
}

}  // namespace godwit::engine::resources
