#include "agent/engine/restore/helper.h"

#include "agent/engine/restore/helper_process.h"
#include "agent/engine/restore/pid_holder.h"
#include "common/base/check.h"
#include "common/base/log.h"

#include <csignal>

#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

constexpr int patience_ms = 60'000;  // descriptors of a large task, not memory

pid_t pid_of(int pidfd) {
  const std::string info = read_file(fmt::format("/proc/self/fdinfo/{}", pidfd));
  const std::size_t at = info.find("\nPid:");
  const pid_t pid = at == std::string::npos ? 0 : static_cast<pid_t>(std::strtol(info.c_str() + at + 5, nullptr, 10));
  if (pid <= 0) fail(Errc::target_gone, "the skeleton has ended");
  return pid;
}

// `member` is in the PID namespace that is meant.
[[noreturn]] void refuse_taken(pid_t pid, pid_t member) {
  throw Error(Errc::already_exists, fmt::format("PID {} is taken by {}", pid, pid_holder(pid, member)),
              "restore in a PID namespace of its own, or end the process that has it");
}

}  // namespace

Helper::Helper(const SpawnRequest& request) {
  try {
    spawn(request);
  } catch (...) {
    if (request.sibling && pidfd_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
    if (helper_ > 0) {
      ::kill(helper_, SIGKILL);
      wait_for_helper();
    }
    throw;
  }
}

void Helper::spawn(const SpawnRequest& request) {
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  socket_ = std::move(ours);
  if (request.sibling) return spawn_sibling(std::move(theirs), request);
  const pid_t child = fork_helper(request.pid, 0);
  if (child == 0) run_helper(std::move(theirs), request);  // does not return
  theirs.reset();
  helper_ = child;
  if (request.init >= 0) {  // the child has only entered the namespaces; the helper is its successor
    const std::string text = answer();
    ::waitpid(child, nullptr, 0);
    helper_ = static_cast<pid_t>(std::stol(text));
    check(::send(socket_.get(), "G", 1, MSG_NOSIGNAL), "tell the helper");
  }
  const std::string text = hear_of_skeleton();
  if (text == "Etaken") refuse_taken(request.pid, request.init >= 0 ? pid_of(request.init) : ::getpid());
  if (text[0] == 'E') throw Error(Errc::internal, text.substr(1));
  if (!pidfd_) fail(Errc::internal, "the helper sent no skeleton");
  host_pid_ = pid_of(pidfd_.get());
}

// The skeleton's pidfd rides on the first answer.
std::string Helper::hear_of_skeleton() {
  char buffer[4096];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{buffer, sizeof buffer};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  pollfd ready{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&ready, 1, patience_ms) != 1) fail(Errc::timed_out, "the helper of the restore does not answer");
  const ssize_t n = check(::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC), "hear from the helper");
  if (n == 0) fail(Errc::internal, "the helper of the restore ended");
  if (const cmsghdr* head = CMSG_FIRSTHDR(&message); head && head->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(head), sizeof fd);
    pidfd_.reset(fd);
  }
  return std::string(buffer, static_cast<std::size_t>(n));
}

// Only we can make a child of our parent (CLONE_PARENT), so the skeleton comes first and makes the helper.
void Helper::spawn_sibling(UniqueFd theirs, const SpawnRequest& request) {
  int pidfd = -1;
  pid_t wanted = request.pid;
  clone_args arguments{};
  arguments.flags = CLONE_PARENT | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  arguments.set_tid = reinterpret_cast<std::uint64_t>(&wanted);
  arguments.set_tid_size = 1;
  const long child = ::syscall(SYS_clone3, &arguments, sizeof arguments);
  if (child == 0) run_sibling(std::move(theirs), request);
  if (child < 0 && errno == EEXIST) refuse_taken(request.pid, ::getpid());
  check(child, "make a child of our parent");
  theirs.reset();
  pidfd_.reset(pidfd);
  host_pid_ = static_cast<pid_t>(child);
  helper_ = static_cast<pid_t>(std::stol(answer()));
  helper_pidfd_.reset(static_cast<int>(check(::syscall(SYS_pidfd_open, helper_, 0), "open the helper of the restore")));
  check(::send(socket_.get(), "G", 1, MSG_NOSIGNAL), "tell the helper");
}

void Helper::wait_for_helper() {
  if (helper_pidfd_) {
    pollfd ended{.fd = helper_pidfd_.get(), .events = POLLIN, .revents = 0};
    ::poll(&ended, 1, patience_ms);
  } else {
    ::waitpid(helper_, nullptr, __WALL);
  }
  helper_ = 0;
}

Helper::~Helper() {
  if (dismissed_) return;
  if (pidfd_) ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  if (helper_ > 0) {
    ::kill(helper_, SIGKILL);
    wait_for_helper();
  }
}

std::string Helper::answer() {
  pollfd ready{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  if (::poll(&ready, 1, patience_ms) != 1) fail(Errc::timed_out, "the helper of the restore does not answer");
  std::string text(64 * 1024, '\0');
  const ssize_t n = check(::recv(socket_.get(), text.data(), text.size(), 0), "hear from the helper");
  if (n == 0) fail(Errc::internal, "the helper of the restore ended");
  text.resize(static_cast<std::size_t>(n));
  if (text[0] == 'E') {  // code, message, hint
    const std::size_t first = text.find('\x1f'), second = text.find('\x1f', first + 1);
    if (first == std::string::npos || second == std::string::npos) throw Error(Errc::internal, text.substr(1));
    throw Error(errc_from_name(text.substr(1, first - 1)), text.substr(first + 1, second - first - 1),
                text.substr(second + 1));
  }
  return text.substr(1);
}

std::string Helper::ask(char kind, const std::string& text, int fd) {
  std::string whole = kind + text;
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
  check(::sendmsg(socket_.get(), &message, MSG_NOSIGNAL), "tell the helper");
  return answer();
}

int Helper::time_namespace(std::uint64_t monotonic, std::uint64_t boottime) {
  return std::stoi(ask('T', fmt::format("{} {}", monotonic, boottime)));
}

void Helper::restore_fds(const image::ImageSet& images, std::uint32_t files_id, pid_t guest_pid,
                         const std::map<std::uint32_t, int>& segments) {
  // Names and bytes back to back in a memfd: a task with many sockets has megabytes of them.
  UniqueFd memory(check(::memfd_create("godwit-images", MFD_CLOEXEC), "create a memfd"));
  std::string bytes;
  for (const auto& [name, content] : images.files()) {
    const std::uint64_t sizes[2] = {name.size(), content.size()};
    bytes.append(reinterpret_cast<const char*>(sizes), sizeof sizes);
    bytes += name;
    bytes += content;
  }
  write_all(memory.get(), bytes);
  std::string text = fmt::format("{} {}", files_id, guest_pid);
  for (const auto& [shmid, number] : segments) text += fmt::format(" {} {}", shmid, number);
  ask('F', text, memory.get());
  wait_for_helper();
}

}  // namespace godwit::engine
