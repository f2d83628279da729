#include "agent/engine/commands/guardian.h"

#include "agent/engine/holder/detach.h"
#include "agent/engine/ptrace/recover.h"
#include "common/base/check.h"
#include "common/base/log.h"

#include <csignal>

#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine::commands {
namespace {

// `dumper`: ready when it has ended, its tracing with it.
[[noreturn]] void guard(int dumper, int memory, const std::function<void()>& afterwards) {
  ::setsid();
  ::prctl(PR_SET_NAME, "godwit-guardian");
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) ::signal(number, SIG_IGN);
  // Nothing of the command's is kept open, but for the log.
  const int end = ::fcntl(dumper, F_DUPFD, 10), journal = ::fcntl(memory, F_DUPFD, 10);
  ::dup2(end, 0);
  ::dup2(journal, 1);
  ::close_range(3, ~0u, 0);
  try {
    holder::leave_cgroups();
  } catch (const std::exception&) {  // it may stay
  }
  pollfd ended{.fd = 0, .events = POLLIN, .revents = 0};
  while (::poll(&ended, 1, -1) < 0 && errno == EINTR) continue;
  try {
    Journal left{UniqueFd(1)};
    if (!left.idle()) {
      recover(left, "", true);
      if (afterwards) afterwards();
    }
  } catch (const std::exception& e) {
    log::error("guardian.failed", {{"message", e.what()}});
    ::_exit(1);
  }
  ::_exit(0);
}

}  // namespace

Guardian::Guardian(std::function<void()> afterwards)
    : memory_(check(::memfd_create("godwit-journal", MFD_CLOEXEC), "create a journal")),
      journal_(UniqueFd(check(::fcntl(memory_.get(), F_DUPFD_CLOEXEC, 0), "duplicate a descriptor"))) {
  const UniqueFd self(static_cast<int>(check(::syscall(SYS_pidfd_open, ::getpid(), 0), "open this process")));
  pid_ = check(::fork(), "fork");
  if (pid_ == 0) guard(self.get(), memory_.get(), afterwards);
}

Guardian::~Guardian() {
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
}

}  // namespace godwit::engine::commands
