#include "agent/workload/init.h"

#include "agent/workload/test_cgroup.h"
#include "common/net/test_loop.h"
#include "common/proc/reader.h"

#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>

#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>

namespace godwit::workload {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class InitTest : public testing::Test {
 protected:
  InitTest() : inits("inits"), copy("copy") {
    char name[] = "/tmp/godwit-init-XXXXXX";
    if (!::mkdtemp(name)) throw std::runtime_error("cannot make a directory");
    directory = name;
    place = {.program = GODWIT_INIT, .cgroup = inits->dir(), .exit_path = directory + "/exit"};
  }
  ~InitTest() override { std::filesystem::remove_all(directory); }

  RunPlan shell(const std::string& script) const {
    return {.argv = {"sh", "-c", script},
            .environment = {"PATH=/usr/bin:/bin", "COLOUR=blue"},
            .directory = directory,
            .output = directory + "/output"};
  }
  Started start(RunPlan plan) {
    Started started;
    net::run_to_end(io, start_into(place, &*copy, std::move(plan), &started));
    return started;
  }
  int wait_for_end(const Init& init) const {
    pollfd ended{.fd = init.pidfd.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&ended, 1, 10'000), 1);
    reap(init.pidfd.get());
    return read_exit_code(place.exit_path);
  }
  std::string output() const { return read_file(directory + "/output"); }

  boost::asio::io_context io;
  TestCgroup inits, copy;
  std::string directory;
  InitPlace place;

 private:
  static net::awaitable<void> start_into(InitPlace place, const Cgroup* copy, RunPlan plan, Started* started) {
    *started = co_await start_workload(std::move(place), *copy, std::move(plan));
  }
};

TEST_F(InitTest, runs_a_program_and_reports_its_exit_code) {
  Started started = start(shell("echo $COLOUR $PWD; exit 3"));
  EXPECT_EQ(wait_for_end(started.init), 3);
  EXPECT_EQ(output(), "blue " + directory + "\n");
}

TEST_F(InitTest, reports_a_death_by_signal_as_a_shell_would) {
  Started started = start(shell("kill -9 $$"));
  EXPECT_EQ(wait_for_end(started.init), 128 + SIGKILL);
}

TEST_F(InitTest, gives_the_workload_namespaces_and_a_proc_of_its_own) {
  Started started = start(shell("ls -d /proc/[0-9]*; read _ < /proc/1/stat; sleep 60"));
  const proc::Reader inside(started.root), here(::getpid());
  for (const char* ns : {"ns/pid", "ns/mnt", "ns/ipc"}) EXPECT_NE(inside.link(ns), here.link(ns)) << ns;
  for (const char* ns : {"ns/net", "ns/uts", "ns/user"}) EXPECT_EQ(inside.link(ns), here.link(ns)) << ns;
  EXPECT_EQ(raw(started.guest), 2);
  EXPECT_EQ(inside.status().ns_sid.back(), 2);
  while (output().empty()) ::usleep(1000);
  EXPECT_THAT(output(), HasSubstr("/proc/1\n/proc/2"));
  EXPECT_THAT(copy->pids(), testing::Contains(started.root));
  EXPECT_THAT(copy->pids(), testing::Not(testing::Contains(started.init.pid)));
  copy->kill();
  EXPECT_EQ(wait_for_end(started.init), 128 + SIGKILL);
}

TEST_F(InitTest, leaves_the_workload_only_its_own_descriptors) {
  Started started = start(shell("exec sleep 60"));
  // Its loader opens libraries first.
  const auto fds = [&] { return proc::Reader(started.root).fds(); };
  for (int tries = 0, settled = 0; tries < 2000 && settled < 50; tries++) {
    settled = fds().size() == 3 ? settled + 1 : 0;
    ::usleep(1000);
  }
  EXPECT_THAT(fds(), testing::ElementsAre(0, 1, 2));
  EXPECT_EQ(proc::Reader(started.root).fd_link(0), "/dev/null");
  EXPECT_EQ(proc::Reader(started.root).status().sig_blocked, 0u);
  copy->kill();
  wait_for_end(started.init);
}

TEST_F(InitTest, says_why_a_program_cannot_be_run) {
  RunPlan plan = shell("");
  plan.argv = {"/nonexistent/program"};
  try {
    start(plan);
    FAIL() << "started";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("/nonexistent/program: No such file"));
  }
  EXPECT_FALSE(copy->populated());
  inits->wait_empty(5s);
}

TEST_F(InitTest, does_not_wait_for_somebody_to_read_its_output) {
  RunPlan plan = shell("echo hello");
  ASSERT_EQ(::mkfifo(plan.output.c_str(), 0600), 0);
  EXPECT_THROW(start(plan), Error);
  const UniqueFd reader = open_file(plan.output, O_RDONLY | O_NONBLOCK);
  Started started = start(plan);
  EXPECT_EQ(wait_for_end(started.init), 0);
  EXPECT_EQ(read_all(reader.get()), "hello\n");
}

TEST_F(InitTest, runs_as_another_user) {
  RunPlan plan = shell("id -u; id -g");
  plan.uid = 65534;
  plan.gid = 65534;
  plan.directory = "/";
  Started started = start(plan);
  EXPECT_EQ(wait_for_end(started.init), 0);
  EXPECT_EQ(output(), "65534\n65534\n");
}

TEST_F(InitTest, reaps_orphans_and_ends_with_its_workload) {
  Started started = start(shell("(sleep 0.01 & sleep 60 & true); sleep 0.3; exit 0"));
  EXPECT_EQ(wait_for_end(started.init), 0);
  copy->wait_empty(5s);
}

net::awaitable<void> start_waiting(InitPlace place, Init* init) {
  *init = co_await start_waiting_init(std::move(place), GuestPid{7});
}

TEST_F(InitTest, waits_for_a_workload_to_be_restored_inside) {
  Init init;
  net::run_to_end(io, start_waiting(place, &init));
  EXPECT_EQ(find_process(init.pid, init.start_time) ? 1 : 0, 1);
  pollfd ended{.fd = init.pidfd.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&ended, 1, 50), 0);
  complete(init);  // there is no task 7: it has ended before it was complete
  EXPECT_EQ(wait_for_end(init), -1);
}

}  // namespace
}  // namespace godwit::workload
