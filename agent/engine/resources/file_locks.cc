#include "agent/engine/resources/file_locks.h"

#include "common/image/filelock.pb.h"

#include <algorithm>
#include <set>
#include <tuple>

#include <linux/kcmp.h>
#include <sys/syscall.h>

namespace godwit::engine::resources::file_locks {
namespace {

std::string_view name_of(proc::LockKind kind) {
  switch (kind) {
    case proc::LockKind::posix: return "a record lock (fcntl)";
    case proc::LockKind::flock: return "a file lock (flock)";
    case proc::LockKind::ofd: return "an open file description lock";
    case proc::LockKind::lease: return "a lease";
    case proc::LockKind::other: return "a lock";
  }
  return "a lock";
}

std::optional<image::FileLockKind> kind_of(proc::LockKind kind) {
  switch (kind) {
    case proc::LockKind::posix: return image::FILE_LOCK_POSIX;
    case proc::LockKind::flock: return image::FILE_LOCK_FLOCK;
    case proc::LockKind::ofd: return image::FILE_LOCK_OFD;
    case proc::LockKind::lease: return image::FILE_LOCK_LEASE;
    case proc::LockKind::other: break;
  }
  return std::nullopt;
}

bool is_same_open_file(const FdView& view, pid_t other, int number) {
  return ::syscall(SYS_kcmp, view.pid, other, KCMP_FILE, view.number, number) == 0;
}

// A process outside the tree that has this very open file, and holds the lock with it; 0: none. flock(1) does so while
// its command runs.
pid_t holder_outside(const FdView& view, const SurveyContext& context) {
  for (const pid_t other : proc::all_pids()) {
    if (other == ::getpid() || std::ranges::find(context.tree, other) != context.tree.end()) continue;
    try {
      const proc::Reader proc(other);
      for (const int number : proc.fds())
        if (is_same_open_file(view, other, number)) return other;
    } catch (const Error&) {  // it has ended, or may not be looked at
    }
  }
  return 0;
}

// A lock of anything else is one of the kernel object that other files share, or of a device of this host.
bool is_lockable(const FdView& view) { return S_ISREG(view.st.st_mode) || S_ISDIR(view.st.st_mode); }

void note_exclusive(const FdView& view, SurveyContext& context) {
  if (view.st.st_nlink == 0 || !view.link.starts_with('/')) return;  // it is carried, so there is one for each copy
  context.locked.push_back({.path = view.link,
                            .inode = view.st.st_ino,
                            .changed_ns = view.st.st_ctim.tv_sec * 1'000'000'000 + view.st.st_ctim.tv_nsec});
}

// One record for each lock, though many descriptors show it.
class Collected {
 public:
  Collected(FileIds& ids, image::ImageSet& out) : ids_(ids), out_(out) {}

  void add(const StoppedTask& task, const FdView& view, const proc::FileLock& lock) {
    const Doing doing("a lock of descriptor {} of task {}", view.number, task.pid);
    const bool own = lock.kind == proc::LockKind::posix;
    const std::uint64_t holder = own ? task.files_id : ids_.for_descriptor(task.pid, view.number, view.link).id;
    const auto kind = kind_of(lock.kind);
    if (!kind) fail(Errc::unsupported, "a lock of an unknown kind");
    if (lock.breaking) fail(Errc::busy, "a lease is being broken: fd {} of task {}", view.number, task.pid);
    if (!seen_.emplace(own, holder, view.st.st_dev, view.st.st_ino, *kind, lock.start).second) return;
    image::FileLockEntry entry;
    entry.set_flag(*kind);
    entry.set_type(lock.write ? F_WRLCK : F_RDLCK);
    entry.set_pid(task.guest_pid);
    entry.set_fd(view.number);
    entry.set_start(lock.start);
    entry.set_len(lock.end ? *lock.end - lock.start + 1 : 0);
    out_.append(image::Kind::file_locks, 0, entry);
  }

 private:
  FileIds& ids_;
  image::ImageSet& out_;
  std::set<std::tuple<bool, std::uint64_t, dev_t, ino_t, image::FileLockKind, std::int64_t>> seen_;
};

}  // namespace

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  if (view.info.locks.empty()) return std::nullopt;
  const proc::FileLock& first = view.info.locks.front();
  if (!context.options.file_locks)
    return Refusal{view.describe(), fmt::format("{} is held on the file", name_of(first.kind)),
                   "carry it with --file-locks, or release it before the move", "--file-locks"};
  for (const proc::FileLock& lock : view.info.locks) {
    if (!kind_of(lock.kind) || lock.mandatory)
      return Refusal{view.describe(), "a lock of an unknown kind is held on the file", ""};
    if (!is_lockable(view))
      return Refusal{view.describe(), fmt::format("{} is held on what is no file on a disk", name_of(lock.kind)),
                     "release the lock before the move", "--file-locks"};
    if (lock.kind == proc::LockKind::lease && lock.write && view.st.st_nlink == 0)
      return Refusal{view.describe(),
                     "a lease for writing is held on a deleted file, which cannot be read without breaking it",
                     "release the lease before the move", "--file-locks"};
    if (lock.write) note_exclusive(view, context);
  }
  const bool of_open_file = std::ranges::any_of(
      view.info.locks, [](const proc::FileLock& lock) { return lock.kind != proc::LockKind::posix; });
  if (!of_open_file || context.frozen) return std::nullopt;
  if (const pid_t other = holder_outside(view, context))
    return Refusal{view.describe(), fmt::format("process {} holds {} with it", other, name_of(first.kind)),
                   "move that process with it, or release the lock"};
  return std::nullopt;
}

void dump(std::span<const StoppedTask> tasks, std::span<const FdWalk> walks, FileIds& ids, image::ImageSet& out) {
  Collected all(ids, out);
  // Of those who share an open file, the one that has placed the lock.
  for (const bool placer : {true, false})
    for (std::size_t i = 0; i < tasks.size(); ++i)
      for (const FdView& view : walks[i].views)
        for (const proc::FileLock& lock : view.info.locks)
          if ((lock.pid == tasks[i].pid) == placer) all.add(tasks[i], view, lock);
}

}  // namespace godwit::engine::resources::file_locks
