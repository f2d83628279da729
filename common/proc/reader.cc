#include "common/proc/reader.h"

#include "common/proc/kept_directories.h"
#include "common/proc/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include <dirent.h>

namespace godwit::proc {
namespace {

// The files need CONFIG_PROC_CHILDREN, which Debian's kernels have, but not every kernel.
bool has_children_files() {
  static const bool has = ::access("/proc/thread-self/children", F_OK) == 0;
  return has;
}

// Names that are numbers, ascending.
std::vector<int> numbers_in(const UniqueFd& fd, const std::string& path) {
  alignas(dirent64) std::array<char, 16384> buffer;
  std::vector<int> found;
  for (;;) {
    const ssize_t filled = ::getdents64(fd.get(), buffer.data(), buffer.size());
    if (filled == 0 || (filled < 0 && errno == ENOENT)) break;  // ENOENT: it has been reaped meanwhile
    check(filled, "list {}", path);
    for (const char* at = buffer.data(); at < buffer.data() + filled;) {
      const auto* entry = reinterpret_cast<const dirent64*>(at);
      at += entry->d_reclen;
      const char* end = entry->d_name + std::strlen(entry->d_name);
      int number = 0;
      const auto [stop, error] = std::from_chars(entry->d_name, end, number);
      if (error == std::errc{} && stop == end) found.push_back(number);
    }
  }
  std::ranges::sort(found);
  return found;
}

}  // namespace

Reader::Reader(pid_t pid) : path_("/proc/" + std::to_string(pid)), dir_(open_process(pid, path_)) {}
Reader::Reader(pid_t pid, pid_t tid)
    : path_("/proc/" + std::to_string(pid) + "/task/" + std::to_string(tid)), dir_(open_task(path_)) {}

void Reader::check_alive(int error_number) const {
  // Inside the directory of an ended task every name gives ENOENT; `stat` is there as long as the task is. Before that,
  // and as a zombie, it has no program, directories and namespaces any more, and its links may be denied.
  constexpr std::uint64_t exiting = 0x4;  // PF_EXITING
  const bool may_be_ending = error_number == ENOENT || error_number == EACCES;
  if (may_be_ending && (::faccessat(dir_.get(), "stat", F_OK, 0) != 0 || stat().flags & exiting))
    fail(Errc::target_gone, "{} is gone", path_);
  errno = error_number;
}

UniqueFd Reader::open(const std::string& name, int flags) const {
  const int fd = ::openat(dir_.get(), name.c_str(), flags | O_CLOEXEC);
  if (fd < 0) check_alive(errno);
  return UniqueFd(check(fd, "open {}/{}", path_, name));
}

std::string Reader::text(const std::string& name) const {
  const UniqueFd fd = open(name, O_RDONLY);
  Doing doing("read {}/{}", path_, name);
  return read_all(fd.get());
}

// Of a task that has just been reaped the kernel still tells, of a thread group 0.
Status Reader::status() const {
  const std::string content = text("status");
  if (content.contains("\nTgid:\t0\n")) fail(Errc::target_gone, "{} is gone", path_);
  return parse_status(content);
}

std::string Reader::link(const std::string& name) const {
  std::string target(4096, '\0');
  const ssize_t n = ::readlinkat(dir_.get(), name.c_str(), target.data(), target.size());
  if (n < 0) check_alive(errno);
  target.resize(static_cast<std::size_t>(check(n, "readlink {}/{}", path_, name)));
  return target;
}

std::string Reader::comm() const {
  std::string name = text("comm");
  if (name.ends_with('\n')) name.pop_back();
  return name;
}

std::vector<std::uint64_t> Reader::auxv() const {
  const std::string bytes = text("auxv");
  std::vector<std::uint64_t> words(bytes.size() / sizeof(std::uint64_t));
  std::memcpy(words.data(), bytes.data(), words.size() * sizeof(std::uint64_t));
  return words;
}

std::vector<int> Reader::numbers(const std::string& name) const {
  return numbers_in(open(name, O_RDONLY | O_DIRECTORY), path_ + "/" + name);
}

std::vector<pid_t> Reader::threads() const { return numbers("task"); }
std::vector<int> Reader::fds() const { return numbers("fd"); }

std::vector<pid_t> Reader::children() const {
  std::vector<pid_t> found;
  for (const pid_t tid : threads()) {
    const int fd = ::openat(dir_.get(), fmt::format("task/{}/children", tid).c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !has_children_files()) return children_by_parent(stat().pid);
    if (fd < 0 && (errno == ENOENT || errno == ESRCH)) continue;  // the thread has ended
    const UniqueFd file(check(fd, "open the children of thread {}", tid));
    std::ranges::copy(parse_pids(read_all(file.get())), std::back_inserter(found));
  }
  std::ranges::sort(found);
  return found;
}

std::vector<pid_t> children_by_parent(pid_t self) {
  std::vector<pid_t> found;
  for (const pid_t pid : all_pids()) {
    try {
      if (Reader(pid).stat().ppid == self) found.push_back(pid);
    } catch (const Error& error) {
      if (error.errc() != Errc::target_gone) throw;
    }
  }
  return found;
}

std::vector<pid_t> all_pids() { return numbers_in(open_file("/proc", O_RDONLY | O_DIRECTORY), "/proc"); }

}  // namespace godwit::proc
