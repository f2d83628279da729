#include "agent/workload/cgroup.h"

#include "agent/workload/spawn.h"
#include "agent/workload/test_cgroup.h"
#include "common/proc/reader.h"

#include <gmock/gmock.h>

#include <csignal>

#include <sys/wait.h>

namespace godwit::workload {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

Child sleeper(int cgroup = -1) {
  return spawn({.program = "/bin/sleep", .arguments = {"60"}, .environment = {}, .cgroup = cgroup});
}

void end(Child& child) {
  send_signal(child.pidfd.get(), SIGKILL);
  siginfo_t info{};
  ::waitid(P_PIDFD, static_cast<id_t>(child.pidfd.get()), &info, WEXITED);
}

TEST(Cgroup, is_where_a_process_was_started) {
  TestCgroup cgroup("start");
  Child child = sleeper(cgroup->dir());
  EXPECT_THAT(cgroup->pids(), ElementsAre(child.pid));
  EXPECT_TRUE(cgroup->populated());
  EXPECT_EQ(cgroup_of(child.pid, cgroup2_mount()), cgroup->path());
  end(child);
  EXPECT_FALSE(cgroup->populated());
}

TEST(Cgroup, takes_in_a_process) {
  TestCgroup cgroup("add");
  Child child = sleeper();
  cgroup->add(child.pid);
  EXPECT_THAT(cgroup->pids(), ElementsAre(child.pid));
  end(child);
}

TEST(Cgroup, holds_what_is_in_it_until_the_thaw) {
  TestCgroup cgroup("freeze");
  Child child = sleeper(cgroup->dir());
  cgroup->freeze(1s);
  EXPECT_TRUE(cgroup->frozen());
  EXPECT_TRUE(cgroup->told_to_freeze());
  EXPECT_EQ(::waitpid(child.pid, nullptr, WNOHANG), 0);
  cgroup->thaw(1s);
  EXPECT_FALSE(cgroup->frozen());
  EXPECT_FALSE(cgroup->told_to_freeze());
  ::kill(child.pid, SIGTERM);  // only now: a fatal signal ends a frozen process, too
  int status = 0;
  ::waitpid(child.pid, &status, 0);
  EXPECT_EQ(WTERMSIG(status), SIGTERM);
}

TEST(Cgroup, kills_what_is_frozen) {
  TestCgroup cgroup("kill");
  Child child = sleeper(cgroup->dir());
  cgroup->freeze(1s);
  cgroup->kill();
  int status = 0;
  ::waitpid(child.pid, &status, 0);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
  cgroup->wait_empty(1s);
  EXPECT_THAT(cgroup->pids(), IsEmpty());
}

TEST(Cgroup, is_gone_after_destroy_with_everything_below) {
  TestCgroup cgroup("destroy");
  Cgroup below = Cgroup::create(cgroup->path() + "/a/b");
  Child child = sleeper(below.dir());
  Cgroup::destroy(cgroup->path(), 5s);
  EXPECT_FALSE(Cgroup::open(cgroup->path()));
  end(child);
  EXPECT_FALSE(below.populated());
}

TEST(Cgroup, cannot_be_removed_while_in_use) {
  TestCgroup cgroup("busy");
  Child child = sleeper(cgroup->dir());
  EXPECT_FALSE(cgroup->remove());
  end(child);
}

TEST(Spawn, says_when_there_is_no_such_program) {
  try {
    spawn({.program = "/nonexistent/program"});
    FAIL() << "started";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::not_found);
  }
}

TEST(Spawn, passes_the_named_descriptors_and_no_others) {
  auto [read_end, write_end] = make_pipe(0);  // inheritable on purpose
  auto [out_read, out_write] = make_pipe();
  Child child = spawn({.program = "/bin/ls",
                       .arguments = {"-C", "/proc/self/fd"},
                       .environment = {},
                       .fds = {write_end.get()},
                       .output = out_write.get()});
  out_write.reset();
  write_end.reset();
  EXPECT_EQ(read_all(out_read.get()), "0  1  2  3  4\n");  // 4 is the directory being listed
  end(child);
}

TEST(Spawn, finds_a_process_by_pid_and_start_time_only) {
  Child child = sleeper();
  const auto started = start_time_of(child.pid);
  EXPECT_TRUE(find_process(child.pid, started));
  EXPECT_FALSE(find_process(child.pid, started + 1));
  end(child);
  EXPECT_FALSE(find_process(child.pid, started));
}

TEST(Spawn, starts_a_session_that_outlives_us) {
  Child child = sleeper();
  EXPECT_EQ(::getsid(child.pid), child.pid);
  EXPECT_FALSE(proc::Reader(child.pid).status().no_new_privs);
  end(child);
}

}  // namespace
}  // namespace godwit::workload
