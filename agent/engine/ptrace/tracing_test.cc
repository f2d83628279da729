#include "agent/engine/ptrace/tracing.h"

#include "common/base/error.h"

#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

using std::chrono_literals::operator""ms;

// A thread in vfork() waits for its child, and stops for nobody.
TEST(SeizeThreads, says_where_a_thread_is_that_does_not_stop) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::vfork() == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) ::syscall(SYS_pause);
    }
    ::_exit(0);
  }
  ::usleep(50'000);
  try {
    seize_threads(pid, 0, true, 100ms);
    ADD_FAILURE() << "it has stopped";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::timed_out);
    EXPECT_NE(e.message().find("within 100 ms: state D"), std::string::npos) << e.message();
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

}  // namespace
}  // namespace godwit::engine
