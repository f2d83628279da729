#include "agent/workload/spawn.h"

#include "common/proc/reader.h"

#include <algorithm>
#include <array>
#include <csignal>

#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::workload {
namespace {

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

// What runs between clone and exec: nothing here may allocate, another thread could hold the allocator's lock.
struct ChildSide {
  const char* program;
  char* const* argv;
  char* const* envp;
  int* fds;
  int fd_count;
  int output;
  int null;
  int report;

  [[noreturn]] void run() {
    place_descriptors();
    ::setsid();
    struct sigaction standard{};
    standard.sa_handler = SIG_DFL;
    for (int s = 1; s <= SIGRTMAX; ++s) ::sigaction(s, &standard, nullptr);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execve(program, argv, envp);
    give_up();
  }

  // First everything above the numbers wanted, then down: no descriptor is overwritten before it is used.
  void place_descriptors() {
    const int above = 3 + fd_count;
    report = moved(report, above);
    null = moved(null, above);
    if (output >= 0) output = moved(output, above);
    for (int i = 0; i < fd_count; ++i) fds[i] = moved(fds[i], above);
    placed(null, 0);
    if (output >= 0) {
      placed(output, 1);
      placed(output, 2);
    }
    for (int i = 0; i < fd_count; ++i) placed(fds[i], 3 + i);
    if (::close_range(static_cast<unsigned>(above), ~0u, CLOSE_RANGE_CLOEXEC) == -1) give_up();
  }
  int moved(int fd, int above) {
    const int to = ::fcntl(fd, F_DUPFD_CLOEXEC, above);
    if (to == -1) give_up();
    return to;
  }
  void placed(int fd, int at) {
    if (::dup2(fd, at) == -1) give_up();
  }
  [[noreturn]] void give_up() {
    const int e = errno;
    [[maybe_unused]] const auto ignored = ::write(report, &e, sizeof e);
    ::_exit(127);
  }
};

}  // namespace

Child spawn(const SpawnPlan& plan) {
  Doing d("starting {}", plan.program);
  auto [report_read, report_write] = make_pipe();
  UniqueFd null = open_file("/dev/null", O_RDWR);
  std::vector<std::string> arguments{plan.program};
  arguments.insert(arguments.end(), plan.arguments.begin(), plan.arguments.end());
  const auto argv = pointers(arguments), envp = pointers(plan.environment);
  std::vector<int> fds = plan.fds;
  ChildSide child{.program = plan.program.c_str(),
                  .argv = argv.data(),
                  .envp = envp.data(),
                  .fds = fds.data(),
                  .fd_count = static_cast<int>(fds.size()),
                  .output = plan.output,
                  .null = null.get(),
                  .report = report_write.get()};
  int pidfd = -1;
  clone_args args{};
  args.flags = CLONE_PIDFD | plan.namespaces;
  args.pidfd = reinterpret_cast<std::uint64_t>(&pidfd);
  args.exit_signal = SIGCHLD;
  if (plan.cgroup >= 0) {
    args.flags |= CLONE_INTO_CGROUP;  // 5.7+: never a moment outside
    args.cgroup = static_cast<std::uint64_t>(plan.cgroup);
  }
  const long pid = ::syscall(SYS_clone3, &args, sizeof args);
  if (pid == 0) child.run();
  check(pid, "clone3");
  Child started{.pid = static_cast<pid_t>(pid), .pidfd = UniqueFd(pidfd)};
  report_write.reset();
  int problem = 0;
  if (::read(report_read.get(), &problem, sizeof problem) == sizeof problem) {
    ::waitpid(started.pid, nullptr, 0);
    throw syscall_error(problem, fmt::format("start {}", plan.program));
  }
  return started;
}

void reap(int pidfd) {
  siginfo_t info{};
  ::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED | WNOHANG);
}

void send_signal(int pidfd, int signal) {
  const long rc = ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0);
  if (rc == -1 && errno != ESRCH) check(rc, "send signal {}", signal);
}

std::uint64_t start_time_of(pid_t pid) { return proc::Reader(pid).stat().start_time; }

UniqueFd find_process(pid_t pid, std::uint64_t start_time) {
  if (pid <= 0) return {};
  const long fd = ::syscall(SYS_pidfd_open, pid, 0);
  if (fd == -1 && (errno == ESRCH || errno == EINVAL)) return {};
  UniqueFd found(static_cast<int>(check(fd, "open a pidfd of {}", pid)));
  try {
    const proc::Stat stat = proc::Reader(pid).stat();
    if (stat.start_time != start_time || stat.state == 'Z' || stat.state == 'X') return {};
  } catch (const Error& e) {
    if (e.errc() == Errc::target_gone) return {};
    throw;
  }
  return found;
}

std::string sibling_program(const std::string& name) {
  const std::string self = read_link("/proc/self/exe");
  return self.substr(0, self.rfind('/') + 1) + name;
}

}  // namespace godwit::workload
