#include "agent/engine/resources/path_file.h"

#include "agent/engine/resources/fown.h"

#include <algorithm>
#include <charconv>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

namespace godwit::engine::resources::path_file {

bool deleted(const FdView& view) { return view.st.st_nlink == 0 && view.link.ends_with(" (deleted)"); }

std::string reach(pid_t pid, const std::string& path) {
  const std::string root = proc::Reader(pid).link("root");
  if (root == "/") return fmt::format("/proc/{}/root{}", pid, path);  // perhaps of another mount namespace
  // The paths of a chrooted task are shown from our root, but its root is where /proc/PID/root leads; what it opened
  // before it was locked in lies outside.
  return path.starts_with(root + "/") ? fmt::format("/proc/{}/root{}", pid, path.substr(root.size())) : path;
}

// Since its link was read: the program itself does so while it runs, somebody else at any time.
bool renamed_meanwhile(const FdView& view, const SurveyContext& context) {
  if (read_link(fmt::format("/proc/self/fd/{}", view.fd)) == view.link) return false;
  if (context.frozen) fail(Errc::busy, "{}: it has just been renamed or removed", view.describe());
  return true;  // the freeze looks again
}

std::optional<Refusal> refuse_lost_path(const FdView& view, const SurveyContext& context) {
  if (view.link.starts_with("(unreachable)") || !view.link.starts_with('/')) {
    return Refusal{view.describe(), "its path cannot be reached from here", "move the task's mount namespace with it"};
  }
  const std::string option = view.st.st_nlink > 0 ? "--link-remap" : "";  // it has another name
  struct stat there{};
  const bool found = ::lstat(reach(view.pid, view.link).c_str(), &there) == 0;
  if (found && there.st_dev == view.st.st_dev && there.st_ino == view.st.st_ino) return std::nullopt;
  if (renamed_meanwhile(view, context)) return std::nullopt;
  if (!found) {
    (void)proc::Reader(view.pid).link("root");  // of who has just ended no name leads anywhere
    return Refusal{view.describe(), "no name leads to this open file any more (deleted, or renamed away)",
                   "close the file before moving, or put the name back", option};
  }
  return Refusal{view.describe(), "its name now belongs to another file", "close the file before moving", option};
}

// Of another process it would be a stranger's at the destination, whoever has that PID there.
std::optional<Refusal> refuse_process_file(const FdView& view, const SurveyContext& context) {
  constexpr std::string_view proc = "/proc/";
  struct statfs fs{};
  if (!view.link.starts_with(proc)) return std::nullopt;
  check(::fstatfs(view.fd, &fs), "stat the file system of {}", view.describe());
  if (fs.f_type != PROC_SUPER_MAGIC) return std::nullopt;
  if (view.link.starts_with("/proc/pressure/") && (view.info.flags & O_ACCMODE) != O_RDONLY)
    return Refusal{view.describe(), "its threshold of pressure is not carried", "close it before the move"};
  pid_t named = 0;
  const std::string_view rest = std::string_view(view.link).substr(proc.size());
  if (std::from_chars(rest.data(), rest.data() + rest.size(), named).ec != std::errc()) return std::nullopt;
  const std::size_t depth =
      proc::Reader(context.tree.empty() ? context.pid : context.tree.front()).status().ns_pid.size();
  const auto is_named = [&](pid_t member) {
    try {
      std::vector<pid_t> pids = proc::Reader(member).status().ns_pid;
      pids.resize(std::min(pids.size(), depth));  // nothing of the tree's, but its own, has names of a nested namespace
      return member == named || std::ranges::find(pids, named) != pids.end();
    } catch (const Error& e) {
      if (e.errc() != Errc::target_gone) throw;
      return false;
    }
  };
  if (is_named(context.pid) || std::ranges::any_of(context.tree, is_named)) return std::nullopt;
  return Refusal{view.describe(), "it is about a process that is not moved with it", "close it before the move"};
}

image::RegFileEntry describe(const FdView& view, std::uint32_t id) {
  image::RegFileEntry entry;
  entry.set_id(id);
  entry.set_flags(view.flags());
  entry.set_pos(static_cast<std::uint64_t>(view.info.pos));
  *entry.mutable_fown() = dump_fown(view.fd);
  entry.set_name(view.link);
  if (S_ISREG(view.st.st_mode)) entry.set_size(static_cast<std::uint64_t>(view.st.st_size));
  entry.set_mode(view.st.st_mode);
  return entry;
}

UniqueFd open(const image::RegFileEntry& entry, const std::string& path) {
  const int recorded = static_cast<int>(entry.flags());
  // What made or checked the file when it was first opened is not repeated.
  int flags = recorded & ~(O_CREAT | O_EXCL | O_TRUNC | O_ASYNC | O_CLOEXEC | (O_TMPFILE & ~O_DIRECTORY));
  if ((recorded & O_TMPFILE) == O_TMPFILE) flags &= ~O_DIRECTORY;  // it named the directory to be nameless in
  // A fifo that took the file's place, or a device without carrier, must not make us wait.
  if ((flags & O_PATH) == 0) flags |= O_NOCTTY | O_NONBLOCK;
  UniqueFd fd = open_file(path, flags);
  struct stat st{};
  check(::fstat(fd.get(), &st), "stat {}", path);
  if (entry.has_mode() && (st.st_mode & S_IFMT) != (entry.mode() & S_IFMT)) {
    fail(Errc::refused, "{} is another type of file here (mode {:o}, {:o} at the source)", path, st.st_mode,
         entry.mode());
  }
  if (entry.pos() != 0) {
    check(::lseek(fd.get(), static_cast<off_t>(entry.pos()), SEEK_SET), "seek to {} in {}", entry.pos(), path);
  }
  return fd;
}

bool is_pseudo(const FdView& view) {
  constexpr std::uint32_t mqueue_magic = 0x19800202;  // ipc/mqueue.c keeps it to itself
  struct statfs fs{};
  check(::fstatfs(view.fd, &fs), "stat the file system of {}", view.describe());
  switch (static_cast<std::uint32_t>(fs.f_type)) {
    case mqueue_magic:
    case SECRETMEM_MAGIC:
    case DMA_BUF_MAGIC: return true;
    default: return false;
  }
}

bool is_directory(const FdView& view) { return S_ISDIR(view.st.st_mode); }

bool is_device(const FdView& view) {
  if (!S_ISCHR(view.st.st_mode) || major(view.st.st_rdev) != 1) return false;
  switch (minor(view.st.st_rdev)) {
    case 3:               // null
    case 5:               // zero
    case 7:               // full
    case 8:               // random
    case 9: return true;  // urandom
    default: return false;
  }
}

bool is_path_only(const FdView& view) { return (view.info.flags & O_PATH) != 0; }

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  if (auto refused = refuse_process_file(view, context)) return refused;
  return refuse_lost_path(view, context);
}

std::optional<Refusal> directory_refusal(const FdView& view, SurveyContext& context) {
  f_owner_ex owner{};
  if (::fcntl(view.fd, F_GETOWN_EX, &owner) == 0 && owner.pid != 0)
    return Refusal{view.describe(), "its notifications of changes (F_NOTIFY, or F_SETOWN alone) are not carried",
                   "use inotify, or close the directory"};
  return refusal(view, context);
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext&) {
  *entry.mutable_reg() = describe(view, entry.id());
}

}  // namespace godwit::engine::resources::path_file
