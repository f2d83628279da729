#include "agent/engine/restore/helper_process.h"

#include "agent/engine/ptrace/batch.h"
#include "agent/engine/resources/descriptor_limit.h"
#include "agent/engine/resources/fd_table.h"
#include "agent/engine/restore/clock_offsets.h"
#include "agent/engine/restore/fork_high.h"
#include "agent/engine/restore/helper_words.h"
#include "agent/engine/restore/message.h"
#include "common/base/check.h"
#include "common/base/units.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <optional>

#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

constexpr unsigned rseq_flag_unregister = 1;

// The skeleton until the engine seizes it: nothing of the engine's memory is used after that. Its rseq area would lie
// in memory that will be gone, a SIGSEGV at the first instruction in user mode: the helper has unregistered it.
[[noreturn]] void be_skeleton(pid_t helper, std::uint64_t scratch, bool own_session) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);      // until it is traced, and dies with its tracer
  if (::getppid() != helper) ::_exit(91);  // it had ended before that
  if (own_session) ::setsid();
  ::close_range(0, ~0u, 0);
  void* at = ::mmap(reinterpret_cast<void*>(scratch), ScratchLayout::size, PROT_READ | PROT_WRITE | PROT_EXEC,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (at != reinterpret_cast<void*>(scratch)) ::_exit(90);
  std::memcpy(at, Stub::code().data(), Stub::code().size());
  *reinterpret_cast<volatile std::uint64_t*>(scratch + ScratchLayout::table) = skeleton_ready;
  for (;;) ::pause();
}

void enter_namespaces(int socket, int init, const std::vector<pid_t>& avoid) {
  check(::setns(init, CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWCGROUP),
        "enter the namespaces of the workload");
  // A PID namespace takes effect for children only.
  const pid_t child = fork_high(avoid, CLONE_PARENT);
  if (child > 0) {
    send_message(socket, "O" + std::to_string(child));
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

std::uint64_t clock_ns(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

std::string make_time_namespace(const helper::MakeTimeNamespace& request) {
  const std::string now = read_file("/proc/self/timens_offsets");
  check(::unshare(CLONE_NEWTIME), "make a time namespace");
  // The kernel's offsets are against the host's clocks, ours are already shifted by those of our own time namespace.
  const auto line = [&](const char* name, clockid_t clock, std::uint64_t wanted) {
    return clock_offset_line(name, clock_offset_for(wanted, clock_ns(clock), clock_offset(now, name)));
  };
  const std::string text =
      line("monotonic", CLOCK_MONOTONIC, request.monotonic_ns) + line("boottime", CLOCK_BOOTTIME, request.boottime_ns);
  UniqueFd offsets = open_file("/proc/self/timens_offsets", O_WRONLY);
  write_all(offsets.get(), std::string_view(text));
  return std::to_string(open_file("/proc/self/ns/time_for_children", O_RDONLY).release());
}

image::ImageSet read_images(int memory) {
  check(::lseek(memory, 0, SEEK_SET), "rewind the images");
  return helper::unpacked(read_all(memory, 1u << 30));
}

// The other side of the engine's requests (helper_words.h), in the order of their kinds there.
class Server {
 public:
  explicit Server(UniqueFd socket) : socket_(std::move(socket)) {}

  [[noreturn]] void run() {
    for (;;) {
      Message message = receive_message(socket_.get());
      if (message.text.empty()) ::_exit(0);
      given_ = std::move(message.fd);
      std::visit([this](const auto& request) { serve(request); }, helper::parse_request(message.text));
    }
  }

  void close_all_else() {
    const auto own = static_cast<unsigned>(socket_.get());
    if (own > 3) check(::close_range(3, own - 1, 0), "close the engine's descriptors");
    check(::close_range(own + 1, ~0u, 0), "close the engine's descriptors");
  }

  void tell(const std::string& text, int fd = -1) { send_message(socket_.get(), helper::answer(text), fd); }
  void tell(const Error& e) { send_message(socket_.get(), helper::answer(e)); }

 private:
  void serve(const helper::Spawn& request) {
    const pid_t pid = request.pid, helper = ::getpid();
    int pidfd = -1;
    clone_args arguments{};
    arguments.flags = CLONE_PIDFD;
    arguments.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
    arguments.exit_signal = SIGCHLD;
    arguments.set_tid = reinterpret_cast<std::uint64_t>(&pid);
    arguments.set_tid_size = 1;
    const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
    if (child == 0) be_skeleton(helper, request.scratch, request.own_session);
    if (child < 0 && errno == EEXIST) return tell("taken");
    check(child, "fork process {}", pid);
    const UniqueFd made(pidfd);
    tell("", made.get());
  }

  void serve(const helper::Reap& request) {
    check(::waitpid(request.pid, nullptr, __WALL), "wait for process {}", request.pid);
    tell("");
  }

  // Only a mapping makes shared anonymous memory; its file is then reached through /proc/self/map_files, so that every
  // mapping of it, now and in later rounds, can be made from one descriptor.
  void serve(const helper::MakeSegment& request) {
    const SegmentSpec& spec = request.spec;
    if (spec.memfd) {
      const std::string& name = spec.memfd_name;
      UniqueFd fd(check(::memfd_create(name.c_str(), spec.create_flags | MFD_CLOEXEC), "create memfd {}", name));
      check(::ftruncate(fd.get(), static_cast<off_t>(spec.size)), "size memfd {}", name);
      return tell(std::to_string(keep(std::move(fd))));
    }
    const std::size_t length = page_up(spec.size);
    void* at = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) check(-1, "map {} bytes of shared memory", length);
    const auto start = reinterpret_cast<std::uint64_t>(at);
    UniqueFd fd = open_file(fmt::format("/proc/self/map_files/{:x}-{:x}", start, start + length), O_RDWR);
    ::munmap(at, length);
    tell(std::to_string(keep(std::move(fd))));
  }

  void serve(const helper::MakeTerminal& request) {
    terminals_.make(static_cast<unsigned>(request.terminal));
    tell("");
  }

  void serve(const helper::ReplaceTerminal& request) {
    if (!given_) fail(Errc::protocol, "no terminal is given for another one");
    terminals_.replace(static_cast<unsigned>(request.terminal), std::move(given_));
    tell("");
  }

  void serve(const helper::Adopt& request) {
    const UniqueFd pidfd(
        static_cast<int>(check(::syscall(SYS_pidfd_open, request.pid, 0), "open process {}", request.pid)));
    terminals_.adopt(request.id,
                     UniqueFd(static_cast<int>(check(::syscall(SYS_pidfd_getfd, pidfd.get(), request.number, 0),
                                                     "take over a descriptor of process {}", request.pid))));
    tell("");
  }

  void serve(const helper::MakeTimeNamespace& request) { tell(make_time_namespace(request)); }

  void serve(const helper::OpenFiles& request) {
    images_ = read_images(given_.get());
    given_.reset();
    // Out of the way of all that will be placed.
    const int above = std::max(3, resources::highest_fd(images_) + 1);  // may throw, which the socket tells
    socket_ = UniqueFd(check(::fcntl(socket_.get(), F_DUPFD_CLOEXEC, above), "move a descriptor out of the way"));
    restorer_.emplace(images_, request.segments, std::move(terminals_));
    restorer_->seal();
    tell("");
  }

  void serve(const helper::Place& request) {
    if (!restorer_) fail(Errc::protocol, "descriptors are asked for before there are images");
    restorer_->place({.files_id = request.files_id, .pid = request.pid});
    tell("");
  }

  // Open for as long as this process lives.
  static int keep(UniqueFd fd) { return fd.release(); }

  UniqueFd socket_, given_;  // given: with the last request
  image::ImageSet images_;
  resources::Terminals terminals_;
  std::optional<resources::FdRestorer> restorer_;
};

}  // namespace

void run_sibling(std::uint64_t scratch, bool own_session) {
  try {
    unregister_rseq();
    resources::raise_descriptor_limit();
    be_skeleton(::getppid(), scratch, own_session);
  } catch (const std::exception&) {  // the engine sees that it has ended
  }
  ::_exit(1);
}

void run_helper(UniqueFd inherited, int init, const std::vector<pid_t>& avoid) {
  const int socket = inherited.release();  // closed with everything else
  Server server(UniqueFd(::fcntl(socket, F_DUPFD_CLOEXEC, 3)));
  try {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (init >= 0) {
      enter_namespaces(socket, init, avoid);
      // The engine knows of this process now: what it says next is not mistaken.
      if (receive_message(socket).text.empty()) ::_exit(0);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    // Whose maker has ended becomes our child, until we end.
    check(::prctl(PR_SET_CHILD_SUBREAPER, 1), "become a subreaper");
    unregister_rseq();  // skeletons inherit it
    resources::raise_descriptor_limit();
    server.close_all_else();
    server.tell(std::to_string(::getpid()));
    server.run();
  } catch (const Error& e) {
    server.tell(e);
  } catch (const std::exception& e) {
    server.tell(Error(Errc::internal, e.what()));
  }
  ::_exit(1);
}

}  // namespace godwit::engine
