#include "agent/engine/commands/heir.h"

#include "agent/engine/holder/detach.h"
#include "agent/engine/restore/fork_high.h"
#include "common/base/check.h"
#include "common/base/log.h"

#include <csignal>

#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine::commands {
namespace {

// `testator`: ready when it has ended, its tracing with it.
[[noreturn]] void outlive(int testator, int legacy, const Heir::Act& act) {
  ::setsid();
  ::prctl(PR_SET_NAME, "godwit-heir");
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(number, SIG_IGN);
  const int end = ::fcntl(testator, F_DUPFD, 10), kept = ::fcntl(legacy, F_DUPFD, 10);
  ::dup2(end, 0);
  ::dup2(kept, 1);
  ::close_range(3, ~0u, 0);
  try {
    holder::leave_cgroups();
  } catch (const std::exception&) {  // it may stay
  }
  pollfd ended{.fd = 0, .events = POLLIN, .revents = 0};
  while (::poll(&ended, 1, -1) < 0 && errno == EINTR) continue;
  try {
    act(UniqueFd(1));
  } catch (const std::exception& e) {
    log::error("heir.failed", {{"message", e.what()}});
    ::_exit(1);
  }
  ::_exit(0);
}

}  // namespace

Heir::Heir(int legacy, const Act& act, const std::vector<pid_t>& avoid) {
  const UniqueFd self(static_cast<int>(check(::syscall(SYS_pidfd_open, ::getpid(), 0), "open this process")));
  pid_ = avoid.empty() ? check(::fork(), "fork") : fork_high(avoid);
  if (pid_ == 0) outlive(self.get(), legacy, act);
}

Heir::~Heir() {
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
}

}  // namespace godwit::engine::commands
