#include "agent/engine/kinship.h"

#include <atomic>
#include <csignal>
#include <functional>

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::engine {
namespace {

// It ends with this test.
pid_t child(std::uint64_t flags, const std::function<void()>& body) {
  const long pid = ::syscall(SYS_clone, flags | SIGCHLD, nullptr, nullptr, nullptr, 0);
  if (pid != 0) return static_cast<pid_t>(pid);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  body();
  for (;;) ::pause();
}

pid_t read_pid(int from) {
  pid_t pid = 0;
  return ::read(from, &pid, sizeof pid) == sizeof pid ? pid : 0;
}

TEST(Kinship, who_has_just_lost_his_parent_is_a_child_of_the_init_of_his_namespace) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  // An init, whose child bears another one and is gone.
  const pid_t init = child(CLONE_NEWPID, [&] {
    const pid_t between = ::fork();
    if (between == 0) {
      if (::fork() == 0)
        for (;;) ::pause();
      ::_exit(0);
    }
    ::waitpid(between, nullptr, 0);
    if (::write(ends[1], &between, sizeof between) < 0) ::_exit(1);
  });
  ASSERT_GT(init, 0);
  ::close(ends[1]);
  ASSERT_NE(read_pid(ends[0]), 0);
  const std::vector<TreeMember> now = tree_of(init, Orphans::left_out);
  ASSERT_EQ(now.size(), 2u);
  // As it was seen before: with a parent that is no process any more.
  const pid_t gone = child(0, [] { ::_exit(0); });
  ::waitpid(gone, nullptr, 0);
  const std::vector<TreeMember> before{{.pid = ::getpid(), .parent = 0, .dead = false},
                                       {.pid = init, .parent = ::getpid(), .dead = false},
                                       {.pid = gone, .parent = init, .dead = false},
                                       {.pid = now[1].pid, .parent = gone, .dead = false}};
  const std::vector<Relative> tree = relatives_of(before);
  ASSERT_EQ(tree.size(), 3u);
  EXPECT_EQ(tree[2].kin.parent, tree[1].pid);
  EXPECT_EQ(tree[2].nested.init, tree[1].pid);
  EXPECT_TRUE(tree[2].nested.reasons.empty());
  ::kill(init, SIGKILL);
  ::waitpid(init, nullptr, 0);
  ::close(ends[0]);
}

// A process, its child and the child's child.
struct OneMemory {
  pid_t root, middle, last;
  std::vector<Relative> tree;
};

// `flags`: with what, besides the memory, the middle one makes the last one, before it may leave the session.
template <class Look>
void with_one_memory(std::uint64_t flags, bool leave_session, Look look) {
  static char stacks[2][1 << 16];
  static std::uint64_t flags_of_last;
  static std::atomic<int> last;
  static bool leave;
  flags_of_last = flags;
  last = 0;
  leave = leave_session;
  const auto wait = [](void*) {
    for (;;) ::syscall(SYS_pause);
    return 0;
  };
  static int (*const pause)(void*) = wait;
  const auto between = [](void*) {
    const int made =
        ::clone(pause, stacks[1] + sizeof stacks[1], static_cast<int>(flags_of_last | CLONE_VM | SIGCHLD), nullptr);
    if (leave) ::syscall(SYS_setsid);
    last = made;
    return pause(nullptr);
  };
  static int (*const middle)(void*) = between;
  auto* const shared = static_cast<std::atomic<pid_t>*>(
      ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  const pid_t root = child(0, [&] {
    const int made = ::clone(middle, stacks[0] + sizeof stacks[0], CLONE_VM | SIGCHLD, nullptr);
    while (last == 0) ::usleep(100);
    shared[1] = last.load();
    shared[0] = made;
  });
  while (shared[0] == 0) ::usleep(100);
  look(OneMemory{
      .root = root, .middle = shared[0], .last = shared[1], .tree = relatives_of(tree_of(root, Orphans::left_out))});
  for (const pid_t pid : {shared[1].load(), shared[0].load(), root}) ::kill(pid, SIGKILL);
  ::waitpid(root, nullptr, 0);
  ::munmap(shared, 4096);
}

std::string refused(const std::vector<Relative>& tree) {
  const std::vector<tasks::Refusal> refusals = refuse_kinship(tree);
  return refusals.empty() ? "" : refusals.front().reason;
}

TEST(Kinship, the_first_of_those_who_use_one_memory_owns_it) {
  with_one_memory(CLONE_SIGHAND, false, [](const OneMemory& f) {
    ASSERT_EQ(f.tree.size(), 3u);
    EXPECT_EQ(f.tree[0].kin.memory, 0);
    for (const std::size_t i : {1u, 2u}) EXPECT_EQ(f.tree[i].kin.memory, f.root) << i;
    EXPECT_FALSE(f.tree[1].kin.handlers);
    EXPECT_TRUE(f.tree[2].kin.handlers);
    EXPECT_EQ(refused(f.tree), "");
  });
}

TEST(Kinship, handlers_of_signals_are_had_from_the_parent) {
  with_one_memory(CLONE_SIGHAND | CLONE_PARENT, false, [](const OneMemory& f) {
    EXPECT_THAT(refused(f.tree), testing::HasSubstr("signal handlers that are not its parent's"));
  });
}

TEST(Kinship, nobody_who_uses_others_memory_is_born_into_a_session_that_was_left) {
  with_one_memory(0, true, [](const OneMemory& f) {
    EXPECT_THAT(refused(f.tree), testing::HasSubstr("in an older session than its parent's"));
  });
}

}  // namespace
}  // namespace godwit::engine
