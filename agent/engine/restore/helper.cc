#include "agent/engine/restore/helper.h"

#include "agent/engine/ptrace/batch.h"
#include "common/base/check.h"
#include "common/base/fd.h"

#include <array>
#include <cstring>
#include <new>

#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t spawn_limit_ns = 10'000'000'000;

// Shared by the engine, the helper and the skeleton until it is cleared.
struct Board {
  volatile int ready = 0;     // the skeleton waits to be seized
  volatile int go = 0;        // seized: stop by int3
  volatile pid_t skeleton = 0;
  volatile int error = 0;     // Errc; message holds the sentence
  std::array<char, 512> message{};
};

void report(Board& board, const Error& e) {
  std::strncpy(board.message.data(), e.what(), board.message.size() - 1);
  board.error = static_cast<int>(e.errc());
}

// glibc's rseq area is unmapped with the rest of the memory; the kernel would write to it at the first return to user mode.
void unregister_rseq() {
  if (__rseq_size == 0) return;
  void* area = static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset;
  constexpr std::uint32_t signature = 0x53053053;
  // glibc registers 32 bytes whatever __rseq_size says of their use.
  check(::syscall(SYS_rseq, area, 32, 1 /* RSEQ_FLAG_UNREGISTER */, signature), "unregister rseq");
}

void raise_descriptor_limit() {
  rlimit limit{};
  check(::getrlimit(RLIMIT_NOFILE, &limit), "read the limit of descriptors");
  limit.rlim_cur = limit.rlim_max;
  check(::setrlimit(RLIMIT_NOFILE, &limit), "raise the limit of descriptors");
}

void close_all_but(int keep) {
  if (keep > 3) check(::close_range(3, static_cast<unsigned>(keep) - 1, 0), "close inherited descriptors");
  check(::close_range(static_cast<unsigned>(keep) + 1, ~0u, 0), "close inherited descriptors");
}

std::string holder_of(pid_t pid) {
  try {
    std::string comm = read_file(fmt::format("/proc/{}/comm", pid), 64);
    while (!comm.empty() && comm.back() == '\n') comm.pop_back();
    return comm;
  } catch (const Error&) {
    return "an unknown process";
  }
}

// In the skeleton: a scratch mapping with the stub, then int3. Nothing of this code or its stack outlives that.
[[noreturn]] void skeleton_main(const HelperPlan& plan, Board& board) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  void* const want = reinterpret_cast<void*>(raw(plan.scratch));
  void* const got = ::mmap(want, ScratchLayout::size, PROT_READ | PROT_WRITE | PROT_EXEC,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (got != want) ::_exit(98);
  std::memcpy(got, Stub::code().data(), Stub::code().size());
  board.ready = 1;
  while (!board.go) {
    const timespec nap{0, 20'000};
    ::nanosleep(&nap, nullptr);
  }
  asm volatile("int3");
  ::_exit(99);
}

void clone_skeleton(const HelperPlan& plan, Board& board) {
  pid_t pid = plan.guest_pid;
  clone_args args{};
  // CLONE_PARENT: the engine traces its own child, and the helper may go without leaving an orphan.
  args.flags = CLONE_FILES | CLONE_FS | CLONE_PARENT;
  args.exit_signal = 0;  // with CLONE_PARENT it is the parent's choice
  args.set_tid = reinterpret_cast<std::uint64_t>(&pid);
  args.set_tid_size = 1;
  if (plan.cgroup_fd >= 0) {
    args.flags |= CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(plan.cgroup_fd);
  }
  const long child = ::syscall(SYS_clone3, &args, sizeof args);
  if (child == 0) skeleton_main(plan, board);
  if (child < 0 && errno == EEXIST)
    throw Error(Errc::already_exists, fmt::format("PID {} is taken by {}", pid, holder_of(pid)),
                "end that process, or restore into a new PID namespace");
  board.skeleton = static_cast<pid_t>(check(child, "create process {}", pid));
}

// The images cross as one memfd: for each file, name length, content length, name, content.
UniqueFd pack(const image::ImageSet& images) {
  UniqueFd fd(check(::memfd_create("images", MFD_CLOEXEC), "create a memfd for the images"));
  std::string all;
  for (const auto& [name, content] : images.files()) {
    const std::array<std::uint64_t, 2> lengths{name.size(), content.size()};
    all.append(reinterpret_cast<const char*>(lengths.data()), sizeof lengths);
    all += name;
    all += content;
  }
  write_all(fd.get(), all);
  check(::lseek(fd.get(), 0, SEEK_SET), "rewind the images");
  return fd;
}

image::ImageSet unpack(int fd) {
  const std::string all = read_all(fd, std::size_t{1} << 30);
  image::ImageSet images;
  for (std::size_t at = 0; at < all.size();) {
    std::array<std::uint64_t, 2> lengths{};
    std::memcpy(lengths.data(), all.data() + at, sizeof lengths);
    at += sizeof lengths;
    images.put_file(all.substr(at, lengths[0]), all.substr(at + lengths[0], lengths[1]));
    at += lengths[0] + lengths[1];
  }
  return images;
}

struct Request {
  std::uint32_t files_id = 0;
  pid_t guest_pid = 0;
  std::uint32_t segments = 0;
  std::array<std::pair<std::uint32_t, int>, 512> segment{};
};

struct Answer {
  int error = 0;  // Errc, 0: done
  std::array<char, 2048> message{};
};

int receive(int control, Request& request) {
  iovec part{&request, sizeof request};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = room.data();
  message.msg_controllen = room.size();
  const ssize_t n = check(::recvmsg(control, &message, MSG_CMSG_CLOEXEC), "wait for the images");
  if (n != sizeof request) ::_exit(0);  // the engine has gone
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

void serve(int control) {
  Request request;
  UniqueFd packed(receive(control, request));
  Answer answer;
  try {
    const image::ImageSet images = unpack(packed.get());
    packed.reset();
    resources::RestorePlan plan{.files_id = request.files_id, .guest_pid = request.guest_pid};
    for (std::uint32_t i = 0; i < request.segments; i++) plan.segments.insert(request.segment[i]);
    const int floor = resources::highest_fd(images, plan.files_id) + 1;
    const int moved = check(::fcntl(control, F_DUPFD_CLOEXEC, floor), "move the control socket");
    ::close(control);
    control = moved;
    plan.keep = {control};
    resources::restore_fds(images, plan);
  } catch (const Error& e) {
    answer.error = static_cast<int>(e.errc());
    std::strncpy(answer.message.data(), e.what(), answer.message.size() - 1);
  }
  ::send(control, &answer, sizeof answer, MSG_NOSIGNAL);
  ::close(control);
}

[[noreturn]] void helper_main(const HelperPlan& plan, Board& board, int control) {
  try {
    check(::prctl(PR_SET_PDEATHSIG, SIGKILL), "die with the engine");
    raise_descriptor_limit();
    unregister_rseq();
    if (plan.init_pidfd >= 0)
      check(::setns(plan.init_pidfd, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID), "enter the workload's namespaces");
    clone_skeleton(plan, board);
    close_all_but(control);  // in the table that both share
    serve(control);
  } catch (const Error& e) {
    report(board, e);
    ::_exit(1);
  }
  ::_exit(0);
}

}  // namespace

Helper::Helper(const HelperPlan& plan) {
  void* shared = ::mmap(nullptr, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) throw syscall_error(errno, "map shared memory for the helper");
  Board& board = *new (shared) Board;
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  pid_ = check(::fork(), "fork the helper");
  if (pid_ == 0) {
    ours.reset();
    helper_main(plan, board, theirs.get());
  }
  theirs.reset();
  control_ = std::move(ours);
  go_ = &board.go;

  const std::uint64_t deadline = monotonic_ns() + spawn_limit_ns;
  while (!board.ready && !board.error && monotonic_ns() < deadline) {
    const timespec nap{0, 20'000};
    ::nanosleep(&nap, nullptr);
  }
  if (board.error) fail(static_cast<Errc>(board.error), "{}", std::string(board.message.data()));
  if (!board.ready) fail(Errc::timed_out, "process {} could not be created in time", plan.guest_pid);
  skeleton_ = board.skeleton;
}

Helper::~Helper() {
  if (pid_ > 0) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  if (go_) ::munmap(const_cast<int*>(go_ - offsetof(Board, go) / sizeof(int)), page_size);
}

void Helper::go() { *go_ = 1; }

void Helper::restore_fds(const image::ImageSet& images, const resources::RestorePlan& plan) {
  Request request{.files_id = plan.files_id, .guest_pid = plan.guest_pid};
  if (plan.segments.size() > request.segment.size())
    fail(Errc::unsupported, "more than {} shared memory segments", request.segment.size());
  for (const auto& segment : plan.segments) request.segment[request.segments++] = segment;
  UniqueFd packed = pack(images);
  iovec part{&request, sizeof request};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> room{};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = room.data();
  message.msg_controllen = room.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  const int fd = packed.get();
  std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  check(::sendmsg(control_.get(), &message, MSG_NOSIGNAL), "hand the images to the helper");

  Answer answer;
  const ssize_t n = check(::recv(control_.get(), &answer, sizeof answer, 0), "wait for the descriptors");
  if (n != sizeof answer) fail(Errc::internal, "the helper died while it restored descriptors");
  if (answer.error) fail(static_cast<Errc>(answer.error), "{}", std::string(answer.message.data()));
  check(::waitpid(pid_, nullptr, 0), "wait for the helper");
  pid_ = -1;
}

}  // namespace godwit::engine
