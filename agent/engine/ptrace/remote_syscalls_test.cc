#include "agent/engine/ptrace/remote_syscalls.h"

#include "agent/engine/ptrace/tracing.h"
#include "common/base/check.h"
#include "common/base/fd.h"

#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace godwit::engine {
namespace {

// A child that sleeps in nanosleep; its exit status says whether the sleep was disturbed.
class Target {
 public:
  Target() {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::signal(SIGTRAP, SIG_IGN);
      timespec nap{0, 300'000'000};
      const bool undisturbed = ::nanosleep(&nap, nullptr) == 0;
      struct sigaction action{};
      ::sigaction(SIGTRAP, nullptr, &action);
      ::_exit(undisturbed && action.sa_handler == SIG_IGN ? 0 : 1);
    }
    ::usleep(20'000);
    trace(PTRACE_SEIZE, pid_, 0, PTRACE_O_TRACESYSGOOD, "seize");
    trace(PTRACE_INTERRUPT, pid_, 0, 0, "interrupt");
    wait_stop(pid_);
    const std::string maps = read_file("/proc/" + std::to_string(pid_) + "/maps");
    const std::size_t line = maps.rfind('\n', maps.find("[vdso]")) + 1;
    unsigned long start = 0, end = 0;
    std::sscanf(maps.c_str() + line, "%lx-%lx", &start, &end);
    instruction_ = find_syscall_instruction(pid_, RemoteAddr{start}, RemoteAddr{end});
  }
  int finish() {
    trace(PTRACE_DETACH, pid_, 0, 0, "detach");
    int status = 0;
    ::waitpid(pid_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  pid_t pid_;
  RemoteAddr instruction_;
};

TEST(RemoteSyscalls, runs_calls_in_a_target_that_does_not_notice) {
  Target target;
  {
    RemoteSyscalls remote(target.pid_, target.pid_, target.instruction_);
    EXPECT_EQ(remote.call("getpid", SYS_getpid), target.pid_);
    EXPECT_EQ(remote.attempt(SYS_close, 12345), -EBADF);
    Scratch scratch(remote, RemoteAddr{0x10000000});
    Batch batch(scratch.address());
    const RemoteAddr name = batch.reserve(16);
    const std::size_t pid = batch.add("getpid", SYS_getpid);
    batch.add("prctl", SYS_prctl, PR_GET_NAME, name);
    for (int i = 0; i < 1000; i++) batch.add("getppid", SYS_getppid);
    remote.run(batch);
    EXPECT_EQ(batch.result(pid), target.pid_);
    EXPECT_EQ(batch.result(1001), ::getpid());
    const auto comm = batch.read<std::array<char, 16>>(name);
    EXPECT_STREQ(comm.data(), "engine_ptrace_t");
  }
  EXPECT_EQ(target.finish(), 0);
}

TEST(RemoteSyscalls, a_failing_call_of_a_batch_is_named) {
  Target target;
  {
    RemoteSyscalls remote(target.pid_, target.pid_, target.instruction_);
    Scratch scratch(remote, RemoteAddr{0x10000000});
    Batch batch(scratch.address());
    batch.add("close descriptor 999", SYS_close, 999);
    try {
      remote.run(batch);
      FAIL();
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("close descriptor 999"), std::string::npos);
    }
  }
  EXPECT_EQ(target.finish(), 0);
}

// The loop ends with a SIGSTOP to itself: one from elsewhere must not be taken for that.
TEST(RemoteSyscalls, the_largest_batch_leaves_the_last_page_of_the_scratch_memory_alone) {
  Target target;
  {
    RemoteSyscalls remote(target.pid_, target.pid_, target.instruction_);
    Scratch scratch(remote, RemoteAddr{0x10000000});
    Batch full(scratch.address());
    constexpr std::size_t some = 64;
    full.add("getppid", SYS_getppid);
    while (full.fits(0, some)) full.reserve(some);
    EXPECT_THROW(full.reserve(some), Error);
    remote.run(full);
    const auto is_there = [&](std::uint64_t page) {
      Batch look(scratch.address());
      const RemoteAddr there = look.put(std::uint8_t{0});
      look.add("look for a page", SYS_mincore, scratch.address() + page, page_size, there);
      remote.run(look);
      return look.read<std::uint8_t>(there) & 1;
    };
    EXPECT_TRUE(is_there(ScratchLayout::unused - page_size));
    EXPECT_FALSE(is_there(ScratchLayout::unused));
  }
  EXPECT_EQ(target.finish(), 0);
}

TEST(RemoteSyscalls, a_foreign_stop_signal_is_not_the_end_of_a_batch) {
  Target target;
  {
    RemoteSyscalls remote(target.pid_, target.pid_, target.instruction_);
    Scratch scratch(remote, RemoteAddr{0x10000000});
    Batch batch(scratch.address());
    // Not nanosleep: the kernel keeps what restarts one in the thread, and the target's own sleep needs that.
    const RemoteAddr no_signal = batch.put(std::uint64_t{0});
    const RemoteAddr limit = batch.put(timespec{0, 150'000'000});
    batch.attempt("wait", SYS_rt_sigtimedwait, no_signal, 0, limit, sizeof(std::uint64_t));
    batch.add("getppid", SYS_getppid);
    std::thread sender([&] {
      ::usleep(50'000);
      ::kill(target.pid_, SIGSTOP);
    });
    try {
      remote.run(batch);
      ADD_FAILURE() << "it was taken for the batch's own";
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::busy) << e.message();
    }
    sender.join();
  }
  EXPECT_EQ(target.finish(), 0);
}

// Ends the same batch of calls in SIGURG, which the target ignores, with `meanwhile` done while its first call sleeps.
// Returns whether it was disturbed.
template <class Meanwhile>
bool run_until_urgent(Target& target, Meanwhile meanwhile) {
  RemoteSyscalls remote(target.pid_, target.pid_, target.instruction_);
  remote.end_batches_with(SIGURG);
  Scratch scratch(remote, RemoteAddr{0x10000000});
  Batch batch(scratch.address());
  const RemoteAddr no_signal = batch.put(std::uint64_t{0});
  const RemoteAddr limit = batch.put(timespec{0, 100'000'000});
  batch.attempt("wait", SYS_rt_sigtimedwait, no_signal, 0, limit, sizeof(std::uint64_t));
  const std::size_t last = batch.add("getppid", SYS_getppid);
  std::thread sender([&] {
    ::usleep(30'000);
    meanwhile();
  });
  const bool disturbed = remote.run_disturbed(batch);
  sender.join();
  EXPECT_EQ(batch.result(last), ::getpid());
  return disturbed;
}

TEST(RemoteSyscalls, a_batch_ends_with_a_signal_that_the_target_ignores) {
  Target target;
  EXPECT_FALSE(run_until_urgent(target, [] {}));
  EXPECT_EQ(target.finish(), 0);
}

TEST(RemoteSyscalls, such_a_signal_from_elsewhere_is_not_the_end_and_disturbs_nobody) {
  Target target;
  ::kill(target.pid_, SIGURG);
  EXPECT_FALSE(run_until_urgent(target, [&] { ::kill(target.pid_, SIGURG); }));
  EXPECT_EQ(target.finish(), 0);
}

TEST(RemoteSyscalls, a_foreign_stop_signal_is_noticed_by_a_batch_that_ends_with_another) {
  Target target;
  EXPECT_TRUE(run_until_urgent(target, [&] { ::kill(target.pid_, SIGSTOP); }));
  EXPECT_EQ(target.finish(), 0);
}

TEST(RemoteSyscalls, a_batch_whose_last_signal_is_blocked_ends_all_the_same) {
  Target target;
  const std::uint64_t mask = get_sigmask(target.pid_);
  set_sigmask(target.pid_, all_signals);
  EXPECT_FALSE(run_until_urgent(target, [] {}));
  set_sigmask(target.pid_, mask);
  EXPECT_EQ(target.finish(), 0);
}

TEST(RemoteSyscalls, a_sleep_goes_on_from_where_a_batch_has_ended) {
  Target target;
  {
    RemoteSyscalls remote(target.pid_, target.pid_, target.instruction_);
    Scratch scratch(remote, RemoteAddr{0x10000000});
    Batch batch(scratch.address());
    batch.add("getppid", SYS_getppid);
    remote.run(batch);
    remote.end();
    scratch.forget();  // to unmap it would be a call
  }
  EXPECT_EQ(target.finish(), 0);
}

TEST(RemoteSyscalls, a_borrow_can_end_while_a_call_of_its_batch_sleeps) {
  Target target;
  {
    RemoteSyscalls remote(target.pid_, target.pid_, target.instruction_);
    Scratch scratch(remote, RemoteAddr{0x10000000});
    Batch batch(scratch.address());
    batch.add("pause", SYS_pause);
    remote.start(batch);
    ::usleep(20'000);
    remote.end();
    scratch.forget();
  }
  EXPECT_EQ(target.finish(), 0);
}

}  // namespace
}  // namespace godwit::engine
