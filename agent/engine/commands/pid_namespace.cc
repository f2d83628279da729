#include "agent/engine/commands/pid_namespace.h"

#include "common/base/check.h"
#include "common/base/waiting.h"

#include <csignal>
#include <cstring>

#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine::commands {
namespace {

constexpr char ready = 'r';

// PID 1: takes a /proc of its own, says so, hears which process to wait for, and ends as that one did.
[[noreturn]] void be_init(int socket) {
  ::prctl(PR_SET_NAME, "godwit-init");
  ::setsid();
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
      ::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0 ||
      (::mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5") !=
           0 &&
       errno != ENOENT))
    ::_exit(126);
  if (::write(socket, &ready, 1) != 1) ::_exit(126);
  pid_t root = 0;
  if (::read(socket, &root, sizeof root) != static_cast<ssize_t>(sizeof root)) ::_exit(126);  // the command gave up
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; fd++) ::dup2(null, fd);
  ::close_range(3, ~0u, 0);
  if (::chdir("/") != 0) ::_exit(126);
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, 0);
    if (ended < 0 && errno != EINTR) ::_exit(126);
    if (ended == root) ::_exit(shell_status(status));
  }
}

}  // namespace

PidNamespace::PidNamespace() {
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_STREAM);
  int pidfd = -1;
  clone_args arguments{};
  arguments.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_PIDFD;
  arguments.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  arguments.exit_signal = SIGCHLD;
  const long child = check(::syscall(SYS_clone3, &arguments, sizeof arguments), "make a PID namespace");
  if (child == 0) {
    ours.reset();
    be_init(theirs.get());
  }
  theirs.reset();
  pid_ = static_cast<pid_t>(child);
  pidfd_.reset(pidfd);
  tell_ = std::move(ours);
  char said = 0;
  if (::read(tell_.get(), &said, 1) != 1 || said != ready) {
    wait();
    fail(Errc::internal, "the first process of the new PID namespace did not get a /proc");
  }
}

PidNamespace::~PidNamespace() {
  if (left_ || pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

UniqueFd PidNamespace::init() const {
  return UniqueFd(check(::fcntl(pidfd_.get(), F_DUPFD_CLOEXEC, 0), "duplicate a descriptor"));
}

void PidNamespace::complete(pid_t guest_pid) { write_all(tell_.get(), std::as_bytes(std::span(&guest_pid, 1))); }

int PidNamespace::wait() {
  const int status = wait_for_child(pid_);
  pid_ = -1;
  return shell_status(status);
}

}  // namespace godwit::engine::commands
