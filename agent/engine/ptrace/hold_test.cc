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

// A process that does something, and then nothing.
class Target {
 public:
  template <class Do>
  explicit Target(Do what) : pid_(::fork()) {
    if (pid_ != 0) {
      ::usleep(100'000);
      return;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    what();
    for (;;) ::pause();
  }
  ~Target() {
    ::kill(pid_, SIGKILL);
    while (::waitpid(-1, nullptr, __WALL) > 0) continue;  // a thread that could not be let go of is a tracee still
  }
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

void add_sleeping_threads(int count) {
  for (int i = 0; i < count; i++)
    std::thread([] {
      for (;;) ::pause();
    }).detach();
}

long gettid_in(Hold& hold, pid_t tid) {
  Batch batch(hold.scratch());
  const std::size_t call = batch.add("gettid", SYS_gettid);
  hold.remote(tid).run(batch);
  return batch.result(call);
}

void stop(pid_t pid) {
  ::kill(pid, SIGSTOP);
  for (int looks = 0; proc::Reader(pid).status().state != 'T' && looks < 1000; looks++) ::usleep(1000);
}

void expect_not_held(pid_t pid, Journal& journal, InterruptedCalls& calls) {
  try {
    const Hold hold(pid, journal, calls, {.limit = 100ms});
    ADD_FAILURE() << "all have stopped";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::timed_out) << e.message();
    EXPECT_NE(e.message().find("state D"), std::string::npos) << e.message();
  }
}

// Sends one SIGCONT when the first thread of the process is traced.
class ContinuesOnce {
 public:
  explicit ContinuesOnce(pid_t pid)
      : sender_([=, this](const std::stop_token& ended) {
          while (!ended.stop_requested())
            if (proc::Reader(pid).status().state == 't') {
              ::kill(pid, SIGCONT);
              sent_ = true;
              return;
            }
        }) {}
  bool sent() const { return sent_; }

 private:
  std::atomic<bool> sent_ = false;
  std::jthread sender_;
};

// Some are on the engine's CPU by then.
TEST(Hold, that_fails_leaves_threads_on_their_cpus) {
  const Target target([] {
    add_sleeping_threads(3);
    std::thread([] {  // it waits for its child, and stops for nobody
      if (::vfork() == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) ::syscall(SYS_pause);
      }
    })
        .detach();
  });
  const pid_t pid = target.pid();
  const auto before = cpus_of_threads(pid);
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  expect_not_held(pid, journal, calls);
  EXPECT_EQ(cpus_of_threads(pid), before);
  for (int i = 0; proc::Reader(pid).status().state != 'S' && i < 1000; i++) ::usleep(1000);
  EXPECT_EQ(proc::Reader(pid).status().state, 'S');
  EXPECT_TRUE(journal.idle());
}

// Nobody is seized before the first thread has stopped: later it could not be let go of.
TEST(Hold, that_fails_for_its_first_thread_leaves_nobody_traced) {
  const Target target([] {
    add_sleeping_threads(3);
    if (::vfork() == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) ::syscall(SYS_pause);
    }
  });
  const pid_t pid = target.pid();
  const auto before = cpus_of_threads(pid);
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  for (int i = 0; i < 2; i++) {
    expect_not_held(pid, journal, calls);
    for (const pid_t tid : proc::Reader(pid).threads()) EXPECT_EQ(proc::Reader(pid, tid).status().tracer_pid, 0);
    EXPECT_EQ(cpus_of_threads(pid), before);
    EXPECT_TRUE(journal.idle());
  }
}

TEST(Hold, leaves_threads_on_their_cpus) {
  const Target target([] {
    add_sleeping_threads(3);
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    std::thread([first] {
      ::sched_setaffinity(0, sizeof first, &first);
      for (;;) ::pause();
    }).detach();
  });
  const pid_t pid = target.pid();
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
}

// By then some threads have been seized, as a rule, and some not.
TEST(Hold, of_who_is_continued_once_stops_it_again) {
  const Target target([] { add_sleeping_threads(200); });
  const pid_t pid = target.pid();
  const auto before = cpus_of_threads(pid);
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  int sent = 0;
  for (int i = 0; i < 20; i++) {
    const ContinuesOnce sender(pid);
    Hold hold(pid, journal, calls);
    EXPECT_EQ(hold.threads().size(), before.size());
    hold.release();
    sent += sender.sent();
  }
  EXPECT_GT(sent, 0);
  EXPECT_EQ(cpus_of_threads(pid), before);
  EXPECT_TRUE(journal.idle());
}

TEST(Hold, of_who_was_stopped_and_is_continued_meanwhile_lets_it_run) {
  const Target target([] { add_sleeping_threads(200); });
  const pid_t pid = target.pid();
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  for (int i = 0; i < 20; i++) {
    stop(pid);
    const ContinuesOnce sender(pid);
    Hold(pid, journal, calls).release();
    if (sender.sent()) EXPECT_NE(proc::Reader(pid).status().state, 'T');
    ::kill(pid, SIGCONT);
  }
  EXPECT_TRUE(journal.idle());
}

// One that is pending would be lost with the stop that ends it.
TEST(Hold, of_who_was_stopped_and_is_continued_meanwhile_keeps_the_signal) {
  const Target target([] {
    sigset_t waited;
    sigemptyset(&waited);
    sigaddset(&waited, SIGCONT);
    ::sigprocmask(SIG_BLOCK, &waited, nullptr);
    add_sleeping_threads(200);
  });
  const pid_t pid = target.pid();
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  for (int i = 0; i < 10; i++) {
    stop(pid);
    const ContinuesOnce sender(pid);
    Hold(pid, journal, calls).release();
    if (sender.sent()) EXPECT_NE(proc::Reader(pid).status().shared_sig_pending & signal_bit(SIGCONT), 0u);
    ::kill(pid, SIGCONT);
  }
}

TEST(Hold, waits_for_a_thread_in_vfork_although_somebody_continues_the_process) {
  const Target target([] {
    add_sleeping_threads(20);
    std::thread([] {
      for (;;) {
        const pid_t child = ::vfork();
        if (child == 0) {
          const timespec a_while{0, 100'000'000};
          ::syscall(SYS_nanosleep, &a_while, nullptr);
          ::_exit(0);
        }
        ::waitpid(child, nullptr, 0);
      }
    }).detach();
  });
  const pid_t pid = target.pid();
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  for (int i = 0; i < 5; i++) {
    const ContinuesOnce sender(pid);
    Hold hold(pid, journal, calls);
    EXPECT_EQ(hold.threads().size(), 22u);
    hold.release();
  }
}

// What it makes until it stops has its CPUs.
TEST(Hold, that_waits_for_a_thread_leaves_it_on_its_cpus) {
  const Target target([] {
    add_sleeping_threads(3);
    std::thread([] {
      if (::vfork() == 0) {
        const timespec a_while{0, 400'000'000};
        ::syscall(SYS_nanosleep, &a_while, nullptr);
        ::_exit(0);
      }
      for (;;) ::pause();
    }).detach();
  });
  const pid_t pid = target.pid();
  const auto before = cpus_of_threads(pid);
  std::map<pid_t, std::array<std::byte, 128>> meanwhile;
  std::jthread observer([&](const std::stop_token& ended) {
    while (!ended.stop_requested() && proc::Reader(pid).status().state != 't') ::usleep(1000);
    ::usleep(50'000);
    meanwhile = cpus_of_threads(pid);
  });
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  Hold hold(pid, journal, calls);
  observer.join();
  const pid_t waited_for = before.rbegin()->first;
  EXPECT_EQ(meanwhile.at(waited_for), before.at(waited_for));
  EXPECT_NE(meanwhile.at(pid), before.at(pid));  // nobody had stopped yet, else
  hold.release();
  EXPECT_EQ(cpus_of_threads(pid), before);
}

TEST(Journal, begun_again_has_none_of_the_threads) {
  Journal journal{UniqueFd()};
  const Journal::Process other = [&] {
    Journal::Process process = journal.begin(1, 0, false);
    process.add({.tid = 1, .pinned = 1});
    return process;
  }();
  Journal::Process process = journal.begin(2, 0, true);
  process.add({.tid = 2, .pinned = 1});
  process.begin_again(false);
  EXPECT_TRUE(process.threads().empty());
  EXPECT_FALSE(process.was_stopped());
  process.add({.tid = 3, .pinned = 1});
  EXPECT_EQ(process.threads().size(), 1u);
  EXPECT_EQ(process.threads()[0].tid, 3);
  EXPECT_EQ(other.threads().size(), 1u);
}

TEST(Hold, of_who_is_killed_meanwhile_leaves_no_zombie_behind) {
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  for (int i = 0; i < 10; i++) {
    const Target target([] { add_sleeping_threads(100); });
    const pid_t pid = target.pid();
    std::jthread killer([&](const std::stop_token& ended) {
      while (!ended.stop_requested() && proc::Reader(pid).status().state != 't') continue;
      ::kill(pid, SIGKILL);
    });
    try {
      Hold(pid, journal, calls).release();
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::target_gone) << e.message();
    }
    killer = {};
    // Its end is told, if it has not been already: all others have been waited for.
    pid_t told = 0;
    for (int looks = 0; told == 0 && looks < 5000; looks++, ::usleep(1000)) told = ::waitpid(pid, nullptr, WNOHANG);
    EXPECT_NE(told, 0) << "there are threads that nobody has waited for";
    EXPECT_TRUE(journal.idle());
  }
}

TEST(GroupStop, that_somebody_has_ended_is_not_waited_for) {
  const Target target([] { add_sleeping_threads(3); });
  Journal journal{UniqueFd()};
  Journal::Process process = journal.begin(target.pid(), 0, true);
  const GroupStop group_stop(target.pid(), process);
  const StopLimit limit(5000ms);
  EXPECT_FALSE(group_stop.await(limit));
  stop(target.pid());
  EXPECT_TRUE(group_stop.await(limit));
  EXPECT_FALSE(limit.over());
  process.end();
}

TEST(Hold, of_who_spins_and_is_continued_once_stops_it_again) {
  const Target target([] {
    for (volatile unsigned turns = 0;;) turns = turns + 1;
  });
  const pid_t pid = target.pid();
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  for (int i = 0; i < 200; i++) {
    std::jthread sender([&] {
      ::usleep(static_cast<useconds_t>(i) * 10);
      ::kill(pid, SIGCONT);
    });
    Hold(pid, journal, calls).release();
  }
  EXPECT_TRUE(journal.idle());
}

// The first thread is in a long call when another one hears of the stop, so that it looks as if somebody had undone it.
TEST(Hold, takes_no_second_stop_of_its_own_for_somebody_elses) {
  const Target target([] {
    std::signal(SIGUSR1, [](int) {});
    std::thread([] {
      for (;;) ::raise(SIGUSR1);
    }).detach();
    constexpr std::size_t size = std::size_t{128} << 20;
    for (;;) {
      void* const area =
          ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
      ::munmap(area, size);
    }
  });
  const pid_t pid = target.pid();
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  for (int i = 0; i < 20; i++) {
    Hold hold(pid, journal, calls);
    for (const HeldThread& t : hold.threads()) EXPECT_EQ(gettid_in(hold, t.tid), t.tid);
    hold.release();
  }
}

// Each may come between the stop and the seizure of a thread, and undo the one before the other.
TEST(Hold, of_who_is_continued_again_and_again_leaves_threads_on_their_cpus) {
  const Target target([] { add_sleeping_threads(12); });
  const pid_t pid = target.pid();
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
}

// What the process ignores is not ignored for a thread that is traced: it must have stopped by then.
TEST(Hold, lets_no_call_return_for_a_signal_that_nobody_handles) {
  void* const shared =
      ::mmap(nullptr, sizeof(std::atomic<int>), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto* const interrupted = new (shared) std::atomic<int>(0);
  const Target target([&] {
    for (int i = 0; i < 40; i++)
      std::thread([&] {
        const int nothing = ::epoll_create1(0);
        epoll_event event{};
        for (;;)
          if (::epoll_wait(nothing, &event, 1, 10) < 0) ++*interrupted;
      }).detach();
  });
  const pid_t pid = target.pid();
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
  ::munmap(shared, sizeof *interrupted);
}

// A signal by which batches would end is one that the program has a use for: it waits where it was.
class HoldOfMany : public ::testing::TestWithParam<int> {};

TEST_P(HoldOfMany, leaves_signals_that_wait_for_somebody) {
  const int number = GetParam();
  const Target target([&] {
    sigset_t waited;
    sigemptyset(&waited);
    sigaddset(&waited, number);
    ::sigprocmask(SIG_BLOCK, &waited, nullptr);
    add_sleeping_threads(40);
  });
  const pid_t pid = target.pid();
  ::kill(pid, number);
  Journal journal{UniqueFd()};
  InterruptedCalls calls;
  {
    Hold hold(pid, journal, calls);
    for (const HeldThread& t : hold.threads()) EXPECT_EQ(gettid_in(hold, t.tid), t.tid);
    hold.release();
  }
  EXPECT_NE(proc::Reader(pid).status().shared_sig_pending & signal_bit(number), 0u);
}

INSTANTIATE_TEST_SUITE_P(Of, HoldOfMany, ::testing::Values(SIGURG, SIGWINCH));

}  // namespace
}  // namespace godwit::engine
