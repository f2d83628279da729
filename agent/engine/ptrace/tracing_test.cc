#include "agent/engine/ptrace/tracing.h"

#include "agent/engine/ptrace/stop.h"
#include "common/base/error.h"
#include "common/proc/reader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <sched.h>
#include <string>
#include <sys/epoll.h>
#include <sys/mman.h>
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

// A child that runs `program`, and an int that both have.
class Child {
 public:
  template <class Program>
  explicit Child(Program program) : shared_(static_cast<volatile int*>(map())) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    program(shared_);
    for (;;) ::syscall(SYS_pause);
  }
  ~Child() {
    ::kill(pid_, SIGKILL);
    while (::waitpid(-1, nullptr, __WALL) > 0) {  // each thread that is traced, before the process
    }
    ::munmap(const_cast<int*>(shared_), sizeof *shared_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  int shared() const { return *shared_; }
  bool becomes(int value) const {
    for (int i = 0; i < 5000 && shared() != value; i++) ::usleep(1000);
    return shared() == value;
  }

 private:
  static void* map() { return ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0); }
  volatile int* shared_;
  pid_t pid_ = -1;
};

TEST(SeizeAndStop, a_signal_before_the_stop_lets_nobody_return_from_his_call) {
  const Child child([](volatile int* shared) {
    const int epoll = ::epoll_create1(0);
    epoll_event event{};
    *shared = 1;
    ::epoll_wait(epoll, &event, 1, -1);
    *shared = 2;
  });
  ASSERT_TRUE(child.becomes(1));
  ::usleep(20'000);
  const auto stop = [&] {
    ::kill(child.pid(), SIGURG);  // nobody catches it: who is not traced does not notice
    ::usleep(20'000);
    ::kill(child.pid(), SIGSTOP);
    return true;
  };
  EXPECT_EQ(seize_and_stop(child.pid(), 0, 5000ms, stop), std::vector{child.pid()});
  EXPECT_EQ(child.shared(), 1);
  EXPECT_EQ(static_cast<long>(get_regs(child.pid()).orig_rax), SYS_epoll_wait);
}

TEST(SeizeAndStop, stops_every_thread) {
  constexpr int others = 50;
  const Child child([](volatile int* shared) {
    alignas(16) static char stacks[others][4096];
    for (auto& stack : stacks) {
      const auto wait = [](void*) -> int {
        for (;;) ::syscall(SYS_pause);
      };
      ::clone(wait, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD, nullptr);
    }
    *shared = 1;
  });
  ASSERT_TRUE(child.becomes(1));
  const std::vector<pid_t> tids =
      seize_and_stop(child.pid(), 0, 5000ms, [&] { return ::kill(child.pid(), SIGSTOP) == 0; });
  ASSERT_EQ(tids.size(), others + 1u);
  EXPECT_EQ(tids.front(), child.pid());
  EXPECT_TRUE(
      std::ranges::all_of(tids, [&](pid_t tid) { return proc::Reader(child.pid(), tid).status().state == 't'; }));
}

TEST(SeizeAndStop, lets_the_threads_run_on_with_their_signals) {
  const Child child([](volatile int* shared) {
    static volatile int* caught;
    caught = shared;
    ::signal(SIGUSR1, [](int) { *caught = 2; });
    *shared = 1;
  });
  ASSERT_TRUE(child.becomes(1));
  const auto stop = [&] {
    ::kill(child.pid(), SIGUSR1);
    ::usleep(20'000);
    return false;
  };
  EXPECT_TRUE(seize_and_stop(child.pid(), 0, 5000ms, stop).empty());
  EXPECT_TRUE(child.becomes(2));
  EXPECT_EQ(proc::Reader(child.pid()).status().tracer_pid, 0);
}

}  // namespace
}  // namespace godwit::engine
