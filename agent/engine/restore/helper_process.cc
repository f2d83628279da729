#include "agent/engine/restore/helper_process.h"

#include "agent/engine/ptrace/batch.h"
#include "agent/engine/resources/fd_table.h"
#include "common/base/check.h"
#include "common/base/units.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <sstream>

#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

constexpr unsigned rseq_flag_unregister = 1;

void say(int socket, const std::string& text, int fd = -1) {
  std::string whole = text;
  iovec part{whole.data(), whole.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  }
  ::sendmsg(socket, &message, MSG_NOSIGNAL);
}

long clone_process(clone_args& arguments) { return ::syscall(SYS_clone3, &arguments, sizeof arguments); }

// With a PID from the upper end of the namespace: the next in turn may be one that the task needs.
long clone_high(std::uint64_t flags, std::uint64_t exit_signal, pid_t avoid) {
  const pid_t highest = static_cast<pid_t>(std::stol(read_file("/proc/sys/kernel/pid_max"))) - 1;
  long child = -1;
  errno = EEXIST;
  for (pid_t pid = highest; child < 0 && errno == EEXIST && pid > highest - 1000; pid--) {
    if (pid == avoid) continue;
    clone_args arguments{};
    arguments.flags = flags;
    arguments.exit_signal = exit_signal;
    arguments.set_tid = reinterpret_cast<std::uint64_t>(&pid);
    arguments.set_tid_size = 1;
    child = clone_process(arguments);
  }
  return child;
}

// The skeleton until the engine seizes it: nothing of the engine's memory is used after that. Its rseq area would lie
// in memory that will be gone, a SIGSEGV at the first instruction in user mode: the helper has unregistered it.
[[noreturn]] void be_skeleton(std::uint64_t scratch) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // until it is traced, and dies with its tracer
  ::setsid();
  void* at = ::mmap(reinterpret_cast<void*>(scratch), ScratchLayout::size, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (at != reinterpret_cast<void*>(scratch)) ::_exit(90);
  std::memcpy(at, Stub::code().data(), Stub::code().size());
  *reinterpret_cast<volatile std::uint64_t*>(scratch + ScratchLayout::table) = skeleton_ready;
  for (;;) ::pause();
}

void enter_namespaces(int socket, const SpawnRequest& request) {
  check(
      ::setns(request.init, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWCGROUP),
      "enter the namespaces of the workload");
  // A PID namespace takes effect for children only.
  const pid_t child = fork_helper(request.pid, CLONE_PARENT);
  if (child > 0) {
    say(socket, "O" + std::to_string(child));
    ::_exit(0);
  }
}

// glibc says how much of its area it uses (20 bytes), and has registered what the kernel asked for at first (32).
void unregister_rseq() {
  void* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  for (const unsigned size : {32u, __rseq_size})
    if (::syscall(SYS_rseq, area, size, rseq_flag_unregister, RSEQ_SIG) == 0) return;
  if (__rseq_size) check(-1, "unregister the rseq area");
}

// The task may have descriptors above our own limit; its own limits come later.
void raise_descriptor_limit() {
  rlimit limit{};
  check(::getrlimit(RLIMIT_NOFILE, &limit), "read the limit of descriptors");
  limit.rlim_cur = limit.rlim_max;
  check(::setrlimit(RLIMIT_NOFILE, &limit), "raise the limit of descriptors");
}

// Returns a pidfd of the skeleton.
UniqueFd spawn(int socket, const SpawnRequest& request) {
  unregister_rseq();
  raise_descriptor_limit();
  const std::uint64_t tid = static_cast<std::uint64_t>(request.pid);
  pid_t wanted = static_cast<pid_t>(tid);
  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = CLONE_FILES | CLONE_FS | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&wanted);
  arguments.set_tid_size = 1;
  if (request.cgroup >= 0) {
    arguments.flags |= CLONE_INTO_CGROUP;
    arguments.cgroup = static_cast<std::uint64_t>(request.cgroup);
  }
  const long child = clone_process(arguments);
  if (child == 0) be_skeleton(request.scratch);
  if (child < 0 && errno == EEXIST) {
    say(socket, "Etaken");
    ::_exit(1);
  }
  check(child, "fork process {}", request.pid);
  return UniqueFd(pidfd);
}

void close_all_but(int one, int other) {
  const unsigned low = static_cast<unsigned>(std::min(one, other)), high = static_cast<unsigned>(std::max(one, other));
  const auto close = [](unsigned first, unsigned last) {
    if (first <= last) check(::close_range(first, last, 0), "close the engine's descriptors");
  };
  close(3, low - 1);
  close(low + 1, high - 1);
  close(high + 1, ~0u);
}

std::uint64_t clock_ns(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

// The kernel's offsets are against the host's clocks, ours are already shifted by those of our own time namespace.
std::int64_t own_offset(const std::string& text, std::string_view clock) {
  std::istringstream lines(text);
  std::string name;
  std::int64_t seconds = 0, nanoseconds = 0;
  while (lines >> name >> seconds >> nanoseconds)
    if (name == clock) return seconds * 1'000'000'000 + nanoseconds;
  return 0;
}

std::string make_time_namespace(const std::string& request) {
  std::istringstream words(request);
  std::uint64_t monotonic = 0, boottime = 0;
  words >> monotonic >> boottime;
  const std::string now = read_file("/proc/self/timens_offsets");
  check(::unshare(CLONE_NEWTIME), "make a time namespace");
  const auto line = [&](const char* name, clockid_t clock, std::uint64_t wanted) {
    const std::int64_t offset = own_offset(now, name) + static_cast<std::int64_t>(wanted - clock_ns(clock));
    const std::int64_t seconds = offset >= 0 ? offset / 1'000'000'000 : -((-offset + 999'999'999) / 1'000'000'000);
    return fmt::format("{} {} {}\n", name, seconds, offset - seconds * 1'000'000'000);
  };
  const std::string text = line("monotonic", CLOCK_MONOTONIC, monotonic) + line("boottime", CLOCK_BOOTTIME, boottime);
  UniqueFd offsets = open_file("/proc/self/timens_offsets", O_WRONLY);
  write_all(offsets.get(), std::string_view(text));
  return std::to_string(open_file("/proc/self/ns/time_for_children", O_RDONLY).release());
}

image::ImageSet read_images(int memory) {
  check(::lseek(memory, 0, SEEK_SET), "rewind the images");
  const std::string bytes = read_all(memory, 1u << 30);
  image::ImageSet images;
  for (std::size_t at = 0; at < bytes.size();) {
    std::uint64_t sizes[2];
    std::memcpy(sizes, bytes.data() + at, sizeof sizes);
    at += sizeof sizes;
    images.put_file(bytes.substr(at, sizes[0]), bytes.substr(at + sizes[0], sizes[1]));
    at += sizes[0] + sizes[1];
  }
  return images;
}

// Number of the socket: above every descriptor of the task.
UniqueFd out_of_the_way(UniqueFd fd, int above) {
  return UniqueFd(check(::fcntl(fd.get(), F_DUPFD_CLOEXEC, above), "move a descriptor out of the way"));
}

void restore_descriptors(UniqueFd& socket, const std::string& request, UniqueFd memory) {
  std::istringstream words(request);
  resources::RestorePlan plan;
  words >> plan.files_id >> plan.guest_pid;
  std::uint32_t shmid = 0;
  int number = 0;
  while (words >> shmid >> number) plan.segments[shmid] = number;
  const image::ImageSet images = read_images(memory.get());
  memory.reset();
  const int above = std::max(3, resources::highest_fd(images, plan.files_id) + 1);  // may throw, which the socket tells
  socket = out_of_the_way(std::move(socket), above);
  plan.keep = {socket.get()};
  resources::restore_fds(images, plan);
}

struct Request {
  char kind = 0;  // 0: the engine has gone
  std::string text;
  UniqueFd fd;
};

Request hear(int socket) {
  Request request;
  std::string buffer(64 * 1024, '\0');
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{buffer.data(), buffer.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = check(::recvmsg(socket, &message, MSG_CMSG_CLOEXEC), "hear from the engine");
  if (n <= 0) return request;
  request.kind = buffer[0];
  request.text = buffer.substr(1, static_cast<std::size_t>(n) - 1);
  if (const cmsghdr* head = CMSG_FIRSTHDR(&message); head && head->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(head), sizeof fd);
    request.fd.reset(fd);
  }
  return request;
}

[[noreturn]] void serve(UniqueFd& socket) {
  for (;;) {
    Request request = hear(socket.get());
    if (request.kind == 0) ::_exit(0);
    if (request.kind == 'T') say(socket.get(), "O" + make_time_namespace(request.text));
    if (request.kind != 'F') continue;
    restore_descriptors(socket, request.text, std::move(request.fd));
    say(socket.get(), "O");
    socket.reset();  // in the skeleton's table too
    ::_exit(0);
  }
}

// A process that shares descriptors and working directory with this one; it sends no signal when it ends.
long clone_sharing() { return clone_high(CLONE_FILES | CLONE_FS, 0, 0); }

// The helper of a sibling. Until the engine traces the skeleton nothing else would end it with the engine.
[[noreturn]] void help_sibling(UniqueFd& socket, pid_t skeleton) {
  socket = out_of_the_way(std::move(socket), 3);
  close_all_but(socket.get(), socket.get());
  say(socket.get(), fmt::format("O{}", ::getpid()));
  if (hear(socket.get()).kind == 0) {
    ::kill(skeleton, SIGKILL);
    ::_exit(0);
  }
  serve(socket);
}

}  // namespace

void run_sibling(UniqueFd socket, const SpawnRequest& request) {
  const pid_t self = ::getpid();
  try {
    unregister_rseq();
    raise_descriptor_limit();
    const long middle = check(clone_sharing(), "fork for the helper");
    if (middle == 0) {
      const long helper = clone_sharing();
      if (helper == 0) help_sibling(socket, self);
      ::_exit(helper > 0 ? 0 : 1);
    }
    // So that the helper is not the skeleton's child: what is restored would find a child that it never had.
    int status = 0;
    check(::waitpid(static_cast<pid_t>(middle), &status, __WALL), "wait for a child");
    if (status == 0) be_skeleton(request.scratch);
    say(socket.get(), "Ethe helper of the restore cannot be made");
  } catch (const std::exception& e) {
    say(socket.get(), fmt::format("E{}", e.what()));
  }
  ::_exit(1);
}

pid_t fork_helper(pid_t avoid, std::uint64_t flags) {
  // With CLONE_PARENT the exit signal is ours.
  return static_cast<pid_t>(check(clone_high(flags, flags & CLONE_PARENT ? 0 : SIGCHLD, avoid), "fork a helper"));
}

void run_helper(UniqueFd socket, const SpawnRequest& request) {
  try {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (request.init >= 0) {
      enter_namespaces(socket.get(), request);
      // The engine knows of this process now: what it says next is not mistaken.
      if (hear(socket.get()).kind == 0) ::_exit(0);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    UniqueFd skeleton = spawn(socket.get(), request);
    // The table is the skeleton's too: nothing of the engine's may stay in it, and the engine hears of the skeleton
    // only after that, since then it opens files there.
    socket = out_of_the_way(std::move(socket), 3);
    skeleton = out_of_the_way(std::move(skeleton), 3);
    close_all_but(socket.get(), skeleton.get());
    say(socket.get(), "O", skeleton.get());
    skeleton.reset();
    serve(socket);
  } catch (const Error& e) {
    say(socket.get(), fmt::format("E{}\x1f{}\x1f{}", name(e.errc()), e.message(), e.hint()));
  } catch (const std::exception& e) {
    say(socket.get(), fmt::format("E{}", e.what()));
  }
  ::_exit(1);
}

}  // namespace godwit::engine
