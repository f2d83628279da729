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

constexpr std::string_view memfd_link = "/memfd:", eventfd_link = "anon_inode:[eventfd]";

std::string memfd_name(const struct stat& st) { return fmt::format("memfd of {:x}:{}", st.st_dev, st.st_ino); }
bool has_id(const proc::Fdinfo& info) { return info.eventfd && info.eventfd->id; }  // 5.2+
std::string eventfd_name(const proc::Fdinfo& info) { return fmt::format("eventfd {}", *info.eventfd.value().id); }

// What tells a file from others with the same link: by which it may be held outside, too.
std::string name_of(const FdView& view) {
  if (view.link.starts_with(memfd_link)) return memfd_name(view.st);
  return view.link == eventfd_link && has_id(view.info) ? eventfd_name(view.info) : view.link;
}

std::string name_of(const proc::Reader& proc, int number, std::string link) {
  struct stat st{};
  if (link.starts_with(memfd_link) && ::fstatat(proc.dir(), fmt::format("fd/{}", number).c_str(), &st, 0) == 0)
    return memfd_name(st);
  if (link != eventfd_link) return link;
  const proc::Fdinfo info = proc.fdinfo(number);
  return has_id(info) ? eventfd_name(info) : link;
}

// Calls use(number, link, name) for each descriptor of a process that may end meanwhile, or that we may not look at.
template <class Use>
void for_each_link(pid_t pid, Use use) {
  try {
    const proc::Reader proc(pid);
    for (const int number : proc.fds()) {
      try {
        const std::string link = proc.fd_link(number);
        use(number, link, name_of(proc, number, link));
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
    const bool object = view.link.starts_with(memfd_link) || (view.link == eventfd_link && has_id(view.info));
    if (fifo || view.socket || object) held[name_of(view)] |= access_of(view.info.flags);
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
  files.outer_terminals = terminal::outer_of(tree, files.held);
  if (files.held.empty()) return files;
  for (const pid_t other : proc::all_pids()) {
    if (other == ::getpid() || std::ranges::find(tree, other) != tree.end()) continue;  // we hold copies ourselves
    for_each_link(other, [&](int number, const std::string& link, const std::string& name) {
      if (files.held.contains(name)) files.outside.try_emplace(name, other);
      if (terminals.empty()) return;
      const auto held = terminal_of(other, number, link);
      if (!held) return;
      if (const auto at = terminals.find(held->index); at != terminals.end() && at->second == held->instance)
        files.outside.try_emplace(pseudo_terminal::key_of(held->index), other);
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
    const std::string name = name_of(view);
    if (const auto holder = context.outside.find(name); name != view.link && holder != context.outside.end())
      refusals.push_back({view.describe(), fmt::format("it is also held by process {}", holder->second),
                          "end that process before the move"});
    if (std::optional<Refusal> refused = kind->refusal(view, context)) refusals.push_back(std::move(*refused));
  }
  if (std::optional<Refusal> refused = terminal::controlling_refusal(proc::Reader(context.pid).stat(), context))
    refusals.push_back(std::move(*refused));
  return refusals;
}

}  // namespace godwit::engine::resources
