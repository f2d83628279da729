#include "agent/engine/ptrace/hold.h"

#include "agent/engine/ptrace/tracing.h"
#include "common/base/error.h"
#include "common/proc/reader.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <map>
#include <new>
#include <stop_token>
#include <thread>

#include <sched.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

using std::chrono_literals::operator""ms;
using Cpus = std::array<std::byte, 128>;

std::map<pid_t, Cpus> cpus_of_threads(pid_t pid) {
  std::map<pid_t, Cpus> all;
  for (const pid_t tid : proc::Reader(pid).threads())
    if (::syscall(SYS_sched_getaffinity, tid, all[tid].size(), all[tid].data()) < 0) ADD_FAILURE() << tid;
  return all;
}

template <class Do>
pid_t forked(Do what) {
  const pid_t pid = ::fork();
  if (pid != 0) {
    ::usleep(100'000);
    return pid;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  what();
  for (;;) ::pause();
}

void end(pid_t pid) {
  ::kill(pid, SIGKILL);
  while (::waitpid(-1, nullptr, __WALL) > 0) continue;  // a thread that could not be let go of is a tracee still
}

void add_sleeping_threads(int count) {
  for (int i = 0; i < count; i++)
    std::thread([] {
      for (;;) ::pause();
    }).detach();
}

// Some are on the engine's CPU by then.
TEST(Hold, that_fails_leaves_threads_on_their_cpus) {
  const pid_t pid = forked([] {
    add_sleeping_threads(3);
    std::thread([] {  // it waits for its child, and stops for nobody
      if (::vfork() == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) ::syscall(SYS_pause);
      }
    })
        .detach();
  });
  const auto before = cpus_of_threads(pid);
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  try {
    const Hold hold(pid, journal, calls, {.limit = 100ms});
    ADD_FAILURE() << "all have stopped";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::timed_out) << e.message();
  }
  EXPECT_EQ(cpus_of_threads(pid), before);
  for (int i = 0; proc::Reader(pid).status().state != 'S' && i < 1000; i++) ::usleep(1000);
  EXPECT_EQ(proc::Reader(pid).status().state, 'S');
  EXPECT_TRUE(journal.idle());
  end(pid);
}

TEST(Hold, leaves_threads_on_their_cpus) {
  const pid_t pid = forked([] {
    add_sleeping_threads(3);
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    std::thread([first] {
      ::sched_setaffinity(0, sizeof first, &first);
      for (;;) ::pause();
    }).detach();
  });
  const auto before = cpus_of_threads(pid);
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  {
    Hold hold(pid, journal, calls);
    EXPECT_EQ(hold.threads().size(), 5u);
    for (const HeldThread& t : hold.threads()) EXPECT_EQ(t.affinity, before.at(t.tid));
    hold.release();
  }
  EXPECT_EQ(cpus_of_threads(pid), before);
  end(pid);
}

// Each may come between the stop and the seizure of a thread, and undo the one before the other.
TEST(Hold, of_who_is_continued_again_and_again_leaves_threads_on_their_cpus) {
  const pid_t pid = forked([] { add_sleeping_threads(12); });
  const auto before = cpus_of_threads(pid);
  std::jthread sender([&](const std::stop_token& ended) {
    for (useconds_t pause = 50; !ended.stop_requested(); pause = pause % 700 + 37) {
      ::kill(pid, SIGCONT);
      ::usleep(pause);
    }
  });
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  unsigned held = 0;
  for (int i = 0; i < 100; i++) {
    try {
      Hold(pid, journal, calls, {.limit = 200ms}).release();
      held++;
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::timed_out) << e.message();
    }
    EXPECT_EQ(cpus_of_threads(pid), before);
  }
  EXPECT_GT(held, 80u);
  sender = {};
  end(pid);
}

// What the process ignores is not ignored for a thread that is traced: it must have stopped by then.
TEST(Hold, lets_no_call_return_for_a_signal_that_nobody_handles) {
  void* const shared =
      ::mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto* const interrupted = new (shared) std::atomic<int>(0);
  const pid_t pid = forked([&] {
    for (int i = 0; i < 40; i++)
      std::thread([&] {
        const int nothing = ::epoll_create1(0);
        epoll_event event{};
        for (;;)
          if (::epoll_wait(nothing, &event, 1, 10) < 0) ++*interrupted;
      }).detach();
  });
  std::jthread sender([&](const std::stop_token& ended) {
    while (!ended.stop_requested()) {
      for (const int number : {SIGURG, SIGWINCH, SIGCHLD}) ::kill(pid, number);
      ::usleep(100);
    }
  });
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  for (int i = 0; i < 100; i++) {
    Hold(pid, journal, calls).release();
    ::usleep(10'000);
  }
  sender = {};
  EXPECT_EQ(interrupted->load(), 0);
  end(pid);
  ::munmap(shared, sizeof *interrupted);
}

// A signal by which batches would end is one that the program has a use for: it waits where it was.
class HoldOfMany : public ::testing::TestWithParam<int> {};

TEST_P(HoldOfMany, leaves_signals_that_wait_for_somebody) {
  const int number = GetParam();
  const pid_t pid = forked([&] {
    sigset_t waited;
    sigemptyset(&waited);
    sigaddset(&waited, number);
    ::sigprocmask(SIG_BLOCK, &waited, nullptr);
    add_sleeping_threads(40);
  });
  ::kill(pid, number);
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  {
    Hold hold(pid, journal, calls);
    for (const HeldThread& t : hold.threads()) {
      Batch batch(hold.scratch());
      const std::size_t call = batch.add("gettid", SYS_gettid);
      hold.remote(t.tid).run(batch);
      EXPECT_EQ(batch.result(call), t.tid);
    }
    hold.release();
  }
  EXPECT_NE(proc::Reader(pid).status().shared_sig_pending & signal_bit(number), 0u);
  end(pid);
}

INSTANTIATE_TEST_SUITE_P(Of, HoldOfMany, ::testing::Values(SIGURG, SIGWINCH));

}  // namespace
}  // namespace godwit::engine
