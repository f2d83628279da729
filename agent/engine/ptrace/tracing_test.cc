#include "agent/engine/ptrace/tracing.h"

#include "agent/engine/ptrace/brought.h"
#include "agent/engine/ptrace/journal.h"
#include "agent/engine/ptrace/pin.h"
#include "agent/engine/ptrace/seize_call.h"
#include "common/base/error.h"
#include "common/base/fd.h"
#include "common/proc/reader.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <sched.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
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

// A stop that it took would be waited for until the limit.
TEST(SeizeCall, takes_notice_of_ends_and_of_no_stops) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::thread([] {
      for (;;) ::pause();
    }).detach();
    for (;;) ::pause();
  }
  ::usleep(50'000);
  const pid_t other = proc::Reader(pid).threads().at(1);
  const StopLimit limit(10'000ms);
  SeizeCall seize(pid, limit);
  ASSERT_EQ(seize(other, 0), 0);
  ::ptrace(PTRACE_INTERRUPT, other, 0, 0);
  for (int i = 0; proc::Reader(pid, other).status().state != 't' && i < 1000; i++) ::usleep(1000);
  EXPECT_TRUE(seize.look());
  EXPECT_FALSE(seize.took_notice());
  EXPECT_EQ(::waitpid(other, nullptr, WNOHANG | __WALL), other);
  ::kill(pid, SIGKILL);
  for (int i = 0; proc::Reader(pid, other).status().state != 'Z' && i < 1000; i++) ::usleep(1000);
  seize.look();
  EXPECT_TRUE(seize.took_notice());
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

// A thread that has not stopped is in vfork() when the process is continued, and would run from then on.
TEST(SeizeStopped, hears_that_somebody_continues_it_while_it_waits) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::thread([] {
      if (::vfork() == 0) {
        const timespec a_while{0, 700'000'000};
        ::syscall(SYS_nanosleep, &a_while, nullptr);
        ::_exit(0);
      }
      for (;;) continue;
    }).detach();
    for (;;) ::pause();
  }
  ::usleep(20'000);
  ::kill(pid, SIGSTOP);
  while (proc::Reader(pid).status().state != 'T') ::usleep(1000);
  const std::jthread sender([&] {
    ::usleep(600'000);
    ::kill(pid, SIGCONT);
  });
  EXPECT_FALSE(seize_stopped_threads(pid, 0, StopLimit(1500ms)));
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

std::array<std::byte, 128> cpus_of(pid_t tid) {
  std::array<std::byte, 128> cpus{};
  ::syscall(SYS_sched_getaffinity, tid, cpus.size(), cpus.data());
  return cpus;
}

// A thread that is not the first, on all CPUs, runs another program, as far as its argument is there: the kernel then
// looks for it.
class ExecsMidway {
 public:
  static constexpr unsigned sleeping = 2;  // besides the first thread; they come before the one that runs sleep

  ExecsMidway()
      : words_(static_cast<Words*>(
            ::mmap(nullptr, sizeof(Words), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))),
        pid_(::fork()) {
    if (pid_ == 0) run();
    while (words_->userfaultfd < 0 && proc::Reader(pid_).status().state != 'Z') ::usleep(1000);
    ::usleep(50'000);
    const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    faults_.reset(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), words_->userfaultfd.load(), 0)));
  }
  ~ExecsMidway() {
    ::kill(pid_, SIGKILL);
    while (::waitpid(-1, nullptr, __WALL) > 0) continue;
    ::munmap(words_, sizeof(Words));
  }
  ExecsMidway(const ExecsMidway&) = delete;
  ExecsMidway& operator=(const ExecsMidway&) = delete;

  pid_t pid() const { return pid_; }
  std::string program() const { return proc::Reader(pid_).comm(); }
  void let_go_on() const {
    alignas(4096) static constexpr std::array<char, 4096> seconds = {'6', '0'};
    uffdio_copy copy{};
    copy.dst = words_->argument;
    copy.src = reinterpret_cast<std::uint64_t>(seconds.data());
    copy.len = seconds.size();
    EXPECT_EQ(::ioctl(faults_.get(), UFFDIO_COPY, &copy), 0) << std::strerror(errno);
    ::usleep(50'000);  // long enough for whatever it does by itself
  }

 private:
  struct Words {
    std::atomic<int> userfaultfd = -1;
    std::uint64_t argument = 0;
  };

  void run() {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    void* const argument = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const int faults = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC));
    uffdio_api api{.api = UFFD_API, .features = 0, .ioctls = 0};
    uffdio_register range{};
    range.range = {reinterpret_cast<std::uint64_t>(argument), 4096};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    if (::ioctl(faults, UFFDIO_API, &api) != 0 || ::ioctl(faults, UFFDIO_REGISTER, &range) != 0) ::_exit(1);
    cpu_set_t all, one;
    ::sched_getaffinity(0, sizeof all, &all);
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    ::sched_setaffinity(0, sizeof one, &one);
    for (unsigned i = 0; i < sleeping; i++)
      std::thread([] {
        for (;;) ::pause();
      }).detach();
    std::thread([=, this] {
      ::sched_setaffinity(0, sizeof all, &all);
      words_->argument = reinterpret_cast<std::uint64_t>(argument);
      words_->userfaultfd = faults;
      ::execlp("sleep", "sleep", argument, nullptr);
    }).detach();
    for (;;) ::pause();
  }

  Words* words_;
  pid_t pid_;
  UniqueFd faults_;
};

// With n threads seized; with two of them, the last but one cannot be seized before the exec is done, and the exec
// waits for the second to be taken notice of.
class SeizeBesideExec : public ::testing::TestWithParam<unsigned> {};

TEST_P(SeizeBesideExec, seizes_whom_it_leaves) {
  const ExecsMidway target;
  const auto cpus = cpus_of(proc::Reader(target.pid()).threads().back());
  Journal journal{UniqueFd()};
  Journal::Process process = journal.begin(target.pid(), 0, false);
  const Pin pin;
  BroughtThreads brought(target.pid(), process, pin);
  unsigned seized = 0;
  const auto go_on = [&] {
    if (seized++ == GetParam()) target.let_go_on();
  };
  Escort escort;
  escort.bring = [&](pid_t tid) {
    brought.bring(tid);
    go_on();
  };
  escort.runs = [&](pid_t tid) {
    brought.take_back(tid);
    go_on();
  };
  escort.back = [&] { brought.take_all_back(); };
  std::optional<std::vector<pid_t>> threads;
  for (int i = 0; !threads && i < 2; i++) {  // the exec ends a group stop
    ::kill(target.pid(), SIGSTOP);
    while (proc::Reader(target.pid()).status().state != 'T') ::usleep(1000);
    threads = seize_stopped_threads(target.pid(), 0, StopLimit(2000ms), escort);
  }
  ASSERT_TRUE(threads);
  EXPECT_EQ(*threads, std::vector{target.pid()});
  EXPECT_EQ(target.program(), "sleep");
  EXPECT_EQ(proc::Reader(target.pid()).status().state, 't');
  detach_threads(*threads);
  brought.take_all_back();
  EXPECT_EQ(cpus_of(target.pid()), cpus);
}

TEST(SeizeThreads, seizes_whom_an_exec_leaves_that_it_waits_for) {
  const ExecsMidway target;
  const std::jthread other([&] {
    ::usleep(50'000);
    target.let_go_on();
  });
  const std::vector<pid_t> threads = seize_threads(target.pid(), 0, StopLimit(2000ms));
  EXPECT_EQ(threads, std::vector{target.pid()});
  EXPECT_EQ(target.program(), "sleep");
  EXPECT_EQ(proc::Reader(target.pid()).status().state, 't');
  detach_threads(threads);
}

// A thread that somebody else traces, and takes notice of a while after its end.
class TracedByAnother {
 public:
  TracedByAnother(pid_t tid, std::chrono::milliseconds a_while) : tracer_(::fork()) {
    if (tracer_ != 0) {
      for (int i = 0; proc::Reader(tid).status().tracer_pid == 0 && i < 1000; i++) ::usleep(1000);
      return;
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::ptrace(PTRACE_SEIZE, tid, 0, 0);
    siginfo_t info;
    ::waitid(P_PID, static_cast<id_t>(tid), &info, WEXITED | WNOWAIT | __WALL);
    ::usleep(static_cast<useconds_t>(a_while.count()) * 1000);
    ::waitpid(tid, nullptr, __WALL);
    ::_exit(0);
  }
  ~TracedByAnother() {
    ::kill(tracer_, SIGKILL);
    ::waitpid(tracer_, nullptr, 0);
  }
  TracedByAnother(const TracedByAnother&) = delete;
  TracedByAnother& operator=(const TracedByAnother&) = delete;

 private:
  pid_t tracer_;
};

// The seizure of the first thread waits for the exec, and the first thread is another one then (EPERM).
TEST(SeizeThreads, seizes_whom_an_exec_leaves_that_was_waited_for) {
  const ExecsMidway target;
  const TracedByAnother slow(proc::Reader(target.pid()).threads().at(1), 200ms);
  target.let_go_on();
  EXPECT_EQ(proc::Reader(target.pid()).status().state, 'Z');
  const std::vector<pid_t> threads = seize_threads(target.pid(), 0, StopLimit(2000ms));
  EXPECT_EQ(threads, std::vector{target.pid()});
  EXPECT_EQ(target.program(), "sleep");
  detach_threads(threads);
}

TEST(SeizeThreads, waits_no_longer_than_it_may_for_an_exec) {
  const ExecsMidway target;
  const TracedByAnother slow(proc::Reader(target.pid()).threads().at(1), 1500ms);
  target.let_go_on();
  const StopLimit limit(200ms);
  try {
    seize_threads(target.pid(), 0, limit);
    ADD_FAILURE() << "it is seized";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::timed_out);
    EXPECT_NE(e.message().find("an exec is under way"), std::string::npos) << e.message();
  }
  EXPECT_EQ(proc::Reader(target.pid()).status().state, 'Z');  // the exec is still under way
}

INSTANTIATE_TEST_SUITE_P(AfterThreads, SeizeBesideExec, ::testing::Range(1u, ExecsMidway::sleeping + 3));

}  // namespace
}  // namespace godwit::engine
