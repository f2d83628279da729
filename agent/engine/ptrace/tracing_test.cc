#include "agent/engine/ptrace/tracing.h"

#include "common/base/error.h"
#include "common/proc/reader.h"

#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include <sys/prctl.h>
#include <sys/ptrace.h>
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
    seize_threads(pid, 0, 100ms);
    ADD_FAILURE() << "it has stopped";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::timed_out);
    EXPECT_NE(e.message().find("within 100 ms: state D"), std::string::npos) << e.message();
  }
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

// The look at whether it is a zombie comes between the end and what the kernel tells of it.
TEST(WaitStop, returns_an_end_that_comes_late) {
  for (int i = 0; i < 60; i++) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::usleep(static_cast<useconds_t>(35'000 + i * 100));
      ::_exit(0);
    }
    ASSERT_EQ(::ptrace(PTRACE_SEIZE, pid, 0, 0), 0);
    EXPECT_TRUE(wait_stop(pid).gone());
  }
}

// Who waits for it as its parent is told how it ended.
TEST(DetachThreads, leaves_the_end_of_a_child_to_its_parent) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) ::pause();
  }
  const std::vector<pid_t> threads = seize_threads(pid, 0, StopLimit(1000ms));
  ::kill(pid, SIGKILL);
  for (int i = 0; !has_ended(pid) && i < 1000; i++) ::usleep(1000);
  detach_threads(threads);
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFSIGNALED(status));
}

class SeizeStoppedThreads : public ::testing::TestWithParam<unsigned> {
 protected:
  static constexpr unsigned threads = 4;

  SeizeStoppedThreads() : pid_(::fork()) {
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (unsigned i = 1; i < threads; i++)
        std::thread([] {
          for (;;) ::pause();
        }).detach();
      for (;;) ::pause();
    }
    ::usleep(50'000);
  }
  ~SeizeStoppedThreads() override {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  void stop() const {
    ::kill(pid_, SIGSTOP);
    for (const pid_t tid : proc::Reader(pid_).threads())
      for (int i = 0; proc::Reader(pid_, tid).status().state != 'T' && i < 1000; i++) ::usleep(1000);
  }

  pid_t pid_;
};

TEST_P(SeizeStoppedThreads, lets_go_of_all_when_somebody_has_continued_one) {
  stop();
  unsigned seen = 0;
  const auto continue_it = [&](pid_t) {
    if (++seen == GetParam()) ::kill(pid_, SIGCONT);
  };
  const auto seized = seize_stopped_threads(pid_, 0, StopLimit(1000ms), {.bring = continue_it});
  EXPECT_FALSE(seized);
  for (const pid_t tid : proc::Reader(pid_).threads()) EXPECT_EQ(proc::Reader(pid_, tid).status().tracer_pid, 0);
  stop();
  const auto again = seize_stopped_threads(pid_, 0, StopLimit(1000ms));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->size(), threads);
  EXPECT_EQ(again->front(), pid_);
  detach_threads(*again);
}

INSTANTIATE_TEST_SUITE_P(BeforeThread, SeizeStoppedThreads, ::testing::Range(1u, 5u));

}  // namespace
}  // namespace godwit::engine
