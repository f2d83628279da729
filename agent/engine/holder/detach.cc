#include "agent/engine/holder/detach.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/waiting.h"
#include "common/proc/mountinfo.h"

#include <csignal>
#include <cstring>

#include <sys/stat.h>

namespace godwit::engine::holder {
namespace {

[[noreturn]] void become(const std::string& program, const std::vector<std::string>& words, int fd) {
  ::setsid();
  const int null = ::open("/dev/null", O_RDWR);
  for (int i = 0; i < 3; i++) ::dup2(null, i);
  ::dup2(fd, 3);
  ::fcntl(3, F_SETFD, 0);  // where it was 3 already
  ::close_range(4, ~0u, 0);
  if (::chdir("/") != 0) ::_exit(127);
  ::umask(077);
  leave_cgroups();
  for (int number = 1; number < NSIG; number++) ::signal(number, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);

  std::vector<char*> arguments{const_cast<char*>("godwit-engine")};
  for (const std::string& w : words) arguments.push_back(const_cast<char*>(w.c_str()));
  arguments.push_back(nullptr);
  std::vector<char*> environment;
  for (char** e = environ; *e; e++)
    if (std::strncmp(*e, "GODWIT_", 7) == 0 || std::strncmp(*e, "PATH=", 5) == 0) environment.push_back(*e);
  environment.push_back(nullptr);
  ::execve(program.c_str(), arguments.data(), environment.data());
  ::_exit(127);
}

}  // namespace

void leave_cgroups() {
  for (const proc::Mount& m : proc::parse_mountinfo(read_file("/proc/self/mountinfo"))) {
    if (m.type != "cgroup" && m.type != "cgroup2") continue;
    const UniqueFd procs(::open((m.point + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    if (procs) [[maybe_unused]]
      const ssize_t n = ::write(procs.get(), "0", 1);
  }
}

void start_detached(const std::vector<std::string>& words, int fd) {
  const std::string program = read_link("/proc/self/exe");
  const pid_t child = check(::fork(), "fork");
  if (child == 0) {
    // Twice, so that whoever adopts orphans here reaps it.
    const pid_t grandchild = ::fork();
    if (grandchild == 0) become(program, words, fd);
    ::_exit(grandchild > 0 ? 0 : 1);
  }
  if (wait_for_child(child) != 0) fail(Errc::internal, "a process of its own cannot be made for the tracker");
}

}  // namespace godwit::engine::holder
