#include "agent/engine/resources/round_trip.h"

#include "agent/engine/resources/pidfd.h"
#include "common/base/waiting.h"
#include "common/proc/reader.h"

#include <csignal>
#include <cstring>

#include <linux/close_range.h>
#include <sys/mman.h>
#include <sys/wait.h>

namespace godwit::engine::resources {
namespace {

constexpr int report_fd = 900;

[[noreturn]] void child_body(const std::function<void()>& make) {
  try {
    check(::close_range(0, ~0u, 0), "close everything");
    for (int number = 0; number < 3; ++number) check(::open("/dev/null", O_RDWR), "open /dev/null");
    make();
  } catch (const std::exception&) {
    ::_exit(1);
  }
  ::raise(SIGSTOP);
  ::_exit(0);
}

std::map<std::uint32_t, int> make_segments(const Dumped& dumped, std::vector<UniqueFd>& owned) {
  std::map<std::uint32_t, int> segments;
  for (const auto& [shmid, content] : dumped.segments) {
    owned.emplace_back(check(::memfd_create("segment", MFD_ALLOW_SEALING | MFD_CLOEXEC), "create a segment"));
    write_all(owned.back().get(), content);
    segments[shmid] = owned.back().get();
  }
  return segments;
}

}  // namespace

StoppedChild::StoppedChild(const std::function<void()>& make) {
  pid_ = check(::fork(), "fork");
  if (pid_ == 0) child_body(make);
  int status = 0;
  check(::waitpid(pid_, &status, WUNTRACED), "wait for a child");
  if (!WIFSTOPPED(status)) fail(Errc::internal, "the child could not make its descriptors");
  pidfd_ = UniqueFd(check(pidfd_open(pid_), "open a child"));
}

StoppedChild::~StoppedChild() {
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

Dumped dump_table(const StoppedChild& child, const Options& options) {
  Dumped dumped;
  FileIds ids;
  ids.begin_freeze();
  const StoppedTask task = child.task();
  dumped.notices = dump_fds(std::span(&task, 1), ids, dumped.images, options);
  dump_fs(child.task(), proc::Reader(child.task().pid).status().umask, ids, dumped.images);
  ids.write(dumped.images);
  for (const Segment& segment : ids.segments()) dumped.segments[segment.shmid] = read_all(segment.memfd.get());
  return dumped;
}

std::string restore_and_verify(const Dumped& dumped, const std::function<std::string()>& verify) {
  auto [reader, writer] = make_pipe();
  const pid_t pid = check(::fork(), "fork");
  if (pid == 0) {
    std::string answer;
    check(::dup2(writer.get(), report_fd), "keep the report's end");
    try {
      std::vector<UniqueFd> owned;
      {
        FdRestorer restorer(dumped.images, make_segments(dumped, owned));
        restorer.seal();
        restorer.place({.files_id = 1, .pid = ::getpid()});
      }
      for (UniqueFd& fd : owned) (void)fd.release();  // closed by the restore, or next
      const auto above = static_cast<unsigned>(highest_fd(dumped.images) + 1);
      check(::close_range(above, report_fd - 1, 0), "close what is no descriptor of the table");
      check(::close_range(report_fd + 1, ~0u, 0), "close what is no descriptor of the table");
      const Places places = places_of(dumped.images, paths_of(dumped.images), 1);
      {
        const UniqueFd cwd = open_file(places.cwd, O_PATH | O_DIRECTORY);
        if (places.root != "/") check(::chroot(places.root.c_str()), "change the root directory");
        check(::fchdir(cwd.get()), "enter the working directory");
      }
      ::umask(places.umask);
      answer = verify();
    } catch (const std::exception& e) {
      answer = e.what();
    }
    (void)!::write(report_fd, answer.data(), answer.size());
    ::_exit(0);
  }
  writer.reset();
  std::string answer = read_all(reader.get());
  if (const int status = wait_for_child(pid); status != 0)
    answer += fmt::format(" (the child ended with status {:x})", status);
  return answer;
}

std::string round_trip(const std::function<void()>& make, const std::function<std::string()>& verify,
                       const Options& options) {
  Dumped dumped;
  {
    const StoppedChild child(make);
    dumped = dump_table(child, options);
  }
  return restore_and_verify(dumped, verify);
}

void place(int fd, int number) {
  check(fd, "open a descriptor for number {}", number);
  if (fd == number) return;
  check(::dup2(fd, number), "place descriptor {}", number);
  ::close(fd);
}

std::string now_or_never(int fd, std::size_t size) {
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, flags | O_NONBLOCK);
  std::string bytes(size, '\0');
  const ssize_t n = ::read(fd, bytes.data(), size);
  const int error = errno;
  ::fcntl(fd, F_SETFL, flags);
  if (n < 0) return error == EAGAIN ? "" : fmt::format("!{}", std::strerror(error));
  bytes.resize(static_cast<std::size_t>(n));
  return bytes;
}

}  // namespace godwit::engine::resources
