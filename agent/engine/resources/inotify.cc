#include "agent/engine/resources/inotify.h"

#include "agent/engine/resources/fown.h"
#include "agent/engine/resources/path_file.h"

#include <cstring>
#include <vector>

#include <linux/ioctl.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>

namespace godwit::engine::resources::inotify {
namespace {

constexpr unsigned long set_next_wd = _IOW('I', 0, std::int32_t);  // INOTIFY_IOC_SETNEXTWD, 4.16+
constexpr std::uint32_t max_handle = 128;                          // MAX_HANDLE_SZ
// What inotify_add_watch takes; fdinfo also shows internal bits.
constexpr std::uint32_t settable = IN_ALL_EVENTS | IN_EXCL_UNLINK | IN_ONESHOT;

// The watched file, by its handle on a mount of its file system that the task sees.
std::optional<std::string> path_of(const FdView& view, const proc::InotifyWatch& watch,
                                   const std::vector<proc::Mount>& mounts) {
  if (!watch.handle_type || watch.handle.size() > max_handle) return std::nullopt;
  std::vector<char> storage(sizeof(file_handle) + watch.handle.size());
  auto* handle = reinterpret_cast<file_handle*>(storage.data());
  handle->handle_bytes = static_cast<unsigned>(watch.handle.size());
  handle->handle_type = *watch.handle_type;
  std::memcpy(handle->f_handle, watch.handle.data(), watch.handle.size());
  const dev_t dev = proc::dev_of(watch.dev);
  for (const proc::Mount& mount : mounts) {
    if (mount.dev != dev) continue;
    const std::string point = fmt::format("/proc/{}/root{}", view.pid, mount.point);
    const UniqueFd mount_fd(::open(point.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!mount_fd) continue;
    const UniqueFd file(::open_by_handle_at(mount_fd.get(), handle, O_PATH | O_CLOEXEC));
    if (!file) continue;
    const std::string path = read_link(fmt::format("/proc/self/fd/{}", file.get()));
    struct stat there{};
    if (path.starts_with('/') && ::stat(path_file::reach(view.pid, path).c_str(), &there) == 0 &&
        there.st_ino == watch.inode) {
      return path;
    }
  }
  return std::nullopt;
}

int unread_bytes(const FdView& view) {
  int bytes = 0;
  check(::ioctl(view.fd, FIONREAD, &bytes), "read the queue length of {}", view.describe());
  return bytes;
}

std::string lost(const FdView& view, const proc::InotifyWatch& watch) {
  return fmt::format("{} watches inode {} of device {:x}, whose path cannot be found", view.describe(), watch.inode,
                     watch.dev);
}

}  // namespace

bool matches(const FdView& view) { return view.link == "anon_inode:inotify"; }

std::optional<Refusal> refusal(const FdView& view, SurveyContext&) {
  const std::vector<proc::Mount> mounts = proc::Reader(view.pid).mountinfo();
  for (const proc::InotifyWatch& watch : view.info.inotify) {
    if (!path_of(view, watch, mounts)) {
      return Refusal{view.describe(), lost(view, watch), "remove the watch, or watch a file system with file handles"};
    }
  }
  return std::nullopt;
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext&) {
  // Reading the queue would consume it and nothing can put events back: an owner that is about to read gets the chance.
  if (const int bytes = unread_bytes(view); bytes > 0) {
    fail(Errc::busy, "{} has {} bytes of events that have not been read yet", view.describe(), bytes);
  }
  image::InotifyFileEntry& file = *entry.mutable_ify();
  file.set_id(entry.id());
  file.set_flags(view.flags());
  *file.mutable_fown() = dump_fown(view.fd);
  const std::vector<proc::Mount> mounts = proc::Reader(view.pid).mountinfo();
  for (const proc::InotifyWatch& watch : view.info.inotify) {
    const std::optional<std::string> path = path_of(view, watch, mounts);
    if (!path) fail(Errc::unsupported, "{}", lost(view, watch));
    image::InotifyWdEntry& wd = *file.add_wd();
    wd.set_id(entry.id());
    wd.set_i_ino(watch.inode);
    wd.set_mask(watch.mask);
    wd.set_ignored_mask(watch.ignored_mask);
    wd.set_s_dev(watch.dev);
    wd.set_wd(static_cast<std::uint32_t>(watch.wd));
    image::FhEntry& handle = *wd.mutable_f_handle();
    handle.set_bytes(static_cast<std::uint32_t>(watch.handle.size()));
    handle.set_type(static_cast<std::uint32_t>(watch.handle_type.value_or(0)));
    for (std::size_t i = 0; i < watch.handle.size(); i += 8) {
      std::uint64_t word = 0;
      watch.handle.copy(reinterpret_cast<char*>(&word), 8, i);
      handle.add_handle(word);
    }
    handle.set_path(*path);
  }
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext&) {
  UniqueFd fd(check(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "create an inotify file"));
  for (const image::InotifyWdEntry& watch : entry.ify().wd()) {
    const std::string& path = watch.f_handle().path();
    if (path.empty()) fail(Errc::unsupported, "watch {} has no path in the image", watch.wd());
    check(::ioctl(fd.get(), set_next_wd, static_cast<long>(watch.wd())), "choose watch number {}", watch.wd());
    const int wd = check(::inotify_add_watch(fd.get(), path.c_str(), watch.mask() & settable), "watch {}", path);
    if (wd != static_cast<int>(watch.wd()))
      fail(Errc::internal, "the watch of {} became {} instead of {}", path, wd, watch.wd());
  }
  return fd;
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::inotify
