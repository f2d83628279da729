#include "agent/engine/kinship.h"

#include <csignal>
#include <functional>

#include <linux/sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

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

}  // namespace
}  // namespace godwit::engine
