#include "agent/engine/resources/fd_walk.h"

#include "agent/engine/resources/fd_kinds.h"
#include "agent/engine/resources/fown.h"
#include "agent/engine/resources/pidfd.h"

#include <algorithm>

#include <sys/resource.h>

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

// Calls use(name) for each descriptor of a process that may end meanwhile, or that we may not look at.
template <class Use>
void for_each_link(pid_t pid, Use use) {
  try {
    const proc::Reader proc(pid);
    for (const int number : proc.fds()) {
      try {
        use(name_of(proc, number, proc.fd_link(number)));
      } catch (const Error& e) {
        if (e.sys_errno() != ENOENT) throw;
      }
    }
  } catch (const Error& e) {
    if (e.errc() != Errc::target_gone && e.sys_errno() != EACCES && e.sys_errno() != EPERM) throw;
  }
}

std::string_view lock_name(proc::LockKind kind) {
  switch (kind) {
    case proc::LockKind::posix: return "a record lock (fcntl)";
    case proc::LockKind::flock: return "a file lock (flock)";
    case proc::LockKind::ofd: return "an open file description lock";
    case proc::LockKind::lease: return "a lease";
    case proc::LockKind::other: return "a lock";
  }
  return "a lock";
}

}  // namespace

FdWalk walk_fds(const proc::Reader& proc, pid_t pid, int pidfd) {
  rlimit limit{};
  check(::getrlimit(RLIMIT_NOFILE, &limit), "read the limit of descriptors");
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    check(::setrlimit(RLIMIT_NOFILE, &limit), "raise the limit of descriptors to {}", limit.rlim_max);
  }
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
    const bool object = view.link.starts_with(memfd_link) || (view.link == eventfd_link && has_id(view.info));
    if (fifo || view.socket || object) held[name_of(view)] |= access_of(view.info.flags);
  }
}

TreeFiles look_at_files(std::span<const pid_t> tree) {
  TreeFiles files;
  files.tree.assign(tree.begin(), tree.end());
  for (const pid_t pid : tree) {
    try {
      const UniqueFd pidfd(check(pidfd_open(pid), "open task {}", pid));
      add_held(walk_fds(proc::Reader(pid), pid, pidfd.get()), files.held);
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone && e.sys_errno() != ESRCH) throw;
    }
  }
  if (files.held.empty()) return files;
  for (const pid_t other : proc::all_pids()) {
    if (other == ::getpid() || std::ranges::find(tree, other) != tree.end()) continue;  // we hold copies ourselves
    for_each_link(other, [&](const std::string& link) {
      if (files.held.contains(link)) files.outside.try_emplace(link, other);
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
    if (!view.info.locks.empty()) {
      refusals.push_back({view.describe(),
                          fmt::format("{} is held on the file", lock_name(view.info.locks.front().kind)),
                          "release the lock before the move", "--file-locks"});
    }
    if (std::optional<Refusal> refused = refuse_fown(view, context.tree)) refusals.push_back(std::move(*refused));
    const std::string name = name_of(view);
    if (const auto holder = context.outside.find(name); name != view.link && holder != context.outside.end())
      refusals.push_back({view.describe(), fmt::format("it is also held by process {}", holder->second),
                          "end that process before the move"});
    if (std::optional<Refusal> refused = kind->refusal(view, context)) refusals.push_back(std::move(*refused));
  }
  return refusals;
}

}  // namespace godwit::engine::resources
