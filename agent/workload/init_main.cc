// PID 1 of a workload's namespaces: starts the workload (or waits for the engine to restore it), reaps, and ends
// when the workload's root task has ended, after writing how. It forwards nothing and has no opinion.
//
// It is not part of the copy: it is made anew at the destination. No library but libc, so that it is small and
// has nothing to fail in.
//
//   godwit-init run EXIT_FD REPORT_FD CGROUP_FD UID GID DIRECTORY ARGV...
//   godwit-init wait EXIT_FD REPORT_FD ROOT_PID
//
// `run` writes the PID of the root task as it is seen inside, or "error: ..." to REPORT_FD. `wait` only reaps until
// SIGUSR1 says that the task ROOT_PID is complete: before that, it may come and go while it is being built.
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace {

int report_fd = -1;

[[noreturn]] void die(const char* what) {
  ::dprintf(report_fd, "error: %s: %s\n", what, std::strerror(errno));
  ::_exit(127);
}

void own_proc() {
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == -1) die("make the mounts private");
  if (::mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) == -1) die("mount /proc");
  // Numbers of terminals are a workload's own: elsewhere they are free.
  if (::mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5") ==
          -1 &&
      errno != ENOENT)
    die("mount /dev/pts");
}

// Everything is blocked: signals are taken with sigwait, and PID 1 is immune to the rest.
sigset_t block_signals() {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  return all;
}

[[noreturn]] void become_workload(uid_t uid, gid_t gid, const char* directory, char** argv) {
  ::setsid();
  ::umask(022);
  if (uid != 0 || gid != 0) {
    if (::setgroups(0, nullptr) == -1) die("drop the groups");
    if (::setresgid(gid, gid, gid) == -1) die("set the group");
    if (::setresuid(uid, uid, uid) == -1) die("set the user");
  }
  if (::chdir(directory) == -1) die(directory);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execvp(argv[0], argv);
  die(argv[0]);
}

// Straight into the copy's cgroup (5.7+), so that no instruction of it runs outside.
pid_t start(int cgroup_fd, uid_t uid, gid_t gid, const char* directory, char** argv) {
  clone_args args{};
  args.flags = CLONE_INTO_CGROUP;
  args.exit_signal = SIGCHLD;
  args.cgroup = static_cast<std::uint64_t>(cgroup_fd);
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid == -1) die("start the workload");
  if (pid == 0) become_workload(uid, gid, directory, argv);
  return static_cast<pid_t>(pid);
}

[[noreturn]] void end(int exit_fd, int status) {
  if (WIFEXITED(status)) ::dprintf(exit_fd, "exit %d\n", WEXITSTATUS(status));
  if (WIFSIGNALED(status)) ::dprintf(exit_fd, "signal %d\n", WTERMSIG(status));
  ::_exit(0);
}

[[noreturn]] void reap(const sigset_t& signals, pid_t root, bool complete, int exit_fd) {
  int how_root_ended = 0;
  bool root_has_ended = false;  // one of those that had this PID: the last one is the one that counts
  for (;;) {
    int status = 0;
    for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != root) continue;
      if (complete) end(exit_fd, status);
      how_root_ended = status;
      root_has_ended = true;
    }
    int signal = 0;
    ::sigwait(&signals, &signal);
    if (signal != SIGUSR1 || complete) continue;
    complete = true;
    if (::kill(root, 0) == 0) continue;
    if (root_has_ended) end(exit_fd, how_root_ended);
    ::_exit(1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  const bool runs = std::strcmp(argv[1], "run") == 0;
  const int exit_fd = std::atoi(argv[2]);
  report_fd = std::atoi(argv[3]);
  ::fcntl(exit_fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(report_fd, F_SETFD, FD_CLOEXEC);
  if (::getpid() != 1) die("this is not PID 1");
  own_proc();
  const sigset_t signals = block_signals();
  pid_t root = 0;
  if (runs) {
    if (argc < 9) return 2;
    const int cgroup_fd = std::atoi(argv[4]);
    ::fcntl(cgroup_fd, F_SETFD, FD_CLOEXEC);
    root = start(cgroup_fd, static_cast<uid_t>(std::atol(argv[5])), static_cast<gid_t>(std::atol(argv[6])), argv[7],
                 argv + 8);
    ::close(cgroup_fd);
  } else {
    root = std::atoi(argv[4]);
  }
  if (::chdir("/") == -1) die("/");
  // The workload keeps its output open, init does not: it would hold files of a copy that has gone.
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int fd = 0; fd < 3; ++fd) ::dup2(null, fd);
  ::dprintf(report_fd, "%d\n", root);
  ::close(report_fd);
  reap(signals, root, runs, exit_fd);
}
