// godwit-engine dump and restore as commands, on programs that know nothing of them.

#include "tests/engine/harness.h"

#include "common/base/check.h"
#include "common/proc/reader.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>

namespace godwit::engine::test {
namespace {

std::string shell(const std::string& command) {
  std::string output;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  char buffer[4096];
  while (std::size_t n = std::fread(buffer, 1, sizeof buffer, pipe)) output.append(buffer, n);
  ::pclose(pipe);
  return output;
}

class CommandTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);  // what is restored becomes our child
  }
  void TearDown() override {
    for (const pid_t pid : std::vector<pid_t>(started_.rbegin(), started_.rend())) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
    }
  }
  pid_t start(const std::vector<std::string>& words) {
    return start([&] {
      std::vector<char*> arguments;
      for (const std::string& w : words) arguments.push_back(const_cast<char*>(w.c_str()));
      arguments.push_back(nullptr);
      ::execvp(arguments[0], arguments.data());
      ::_exit(127);
    });
  }
  pid_t start(const std::function<void()>& body) {
    lines_at_start_ = lines_in(dir_.path("out"));
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::setsid();
      const int out = ::open(dir_.path("out").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
      const int in = ::open("/dev/null", O_RDONLY);
      ::dup2(in, 0);
      ::dup2(out, 1);
      ::dup2(out, 2);
      ::close_range(3, ~0u, 0);
      ::chdir("/");
      body();
      ::_exit(0);
    }
    started_.push_back(pid);
    return pid;
  }
  Ran dump(pid_t pid, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"dump", "-t", std::to_string(pid), "-D",
                                   dir_.path("images" + std::to_string(++dumps_))};
    words.insert(words.end(), more.begin(), more.end());
    Ran ran = run_engine(words);
    if (ran.ok() && more.size() < 2 && (more.empty() || more[0] != "--leave-running")) ::waitpid(pid, nullptr, 0);
    return ran;
  }
  Ran restore(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"restore", "-d", "-D", dir_.path("images" + std::to_string(dumps_))};
    words.insert(words.end(), more.begin(), more.end());
    return run_engine(words);
  }
  // Since the last start: it may have printed them before anybody asks.
  bool has_printed(std::size_t lines = 2) {
    return wait_for([&] { return lines_in(dir_.path("out")) >= lines_at_start_ + lines; });
  }
  bool prints(std::size_t lines = 2) {
    const std::size_t before = lines_in(dir_.path("out"));
    return wait_for([&] { return lines_in(dir_.path("out")) >= before + lines; });
  }

  TempDir dir_;
  std::vector<pid_t> started_;
  std::size_t lines_at_start_ = 0;
  int dumps_ = 0;
};

TEST_F(CommandTest, sleep_sleeps_on) {
  const pid_t pid = start({"sleep", "2.5"});
  ::usleep(500'000);
  const auto begun = Clock::now();
  const Ran dumped = dump(pid);
  ASSERT_TRUE(dumped.ok()) << dumped.output;
  const Ran restored = restore();
  ASSERT_TRUE(restored.ok()) << restored.output;
  int status = -1;
  ::waitpid(pid, &status, 0);
  started_.clear();
  EXPECT_EQ(status, 0);
  const std::chrono::duration<double> took = Clock::now() - begun;
  EXPECT_GT(took.count(), 1.8) << "it did not sleep long enough";
}

TEST_F(CommandTest, python_counts_on) {
  const pid_t pid =
      start({"/usr/bin/python3", "-uc", "import time\ni=0\nwhile True:\n  print(i)\n  i+=1\n  time.sleep(0.01)"});
  ASSERT_TRUE(has_printed());
  for (int hop = 0; hop < 2; hop++) {
    const Ran dumped = dump(pid);
    ASSERT_TRUE(dumped.ok()) << dumped.output;
    const Ran restored = restore();
    ASSERT_TRUE(restored.ok()) << restored.output;
    ASSERT_TRUE(prints(5)) << contents(dir_.path("out"));
  }
  const std::string out = contents(dir_.path("out"));
  std::size_t at = 0;
  for (std::size_t i = 0; at < out.size(); i++) {
    const std::size_t end = out.find('\n', at);
    ASSERT_EQ(out.substr(at, end - at), std::to_string(i));
    at = end == std::string::npos ? out.size() : end + 1;
  }
}

TEST_F(CommandTest, redis_keeps_every_key_over_two_hops) {
  if (!std::filesystem::exists("/usr/bin/redis-server")) GTEST_SKIP() << "no redis-server";
  const std::string cli = "redis-cli -p 17391 ";
  const pid_t pid = start({"/usr/bin/redis-server", "--port", "17391", "--save", "", "--appendonly", "no",
                           "--enable-debug-command", "local"});
  ASSERT_TRUE(wait_for([&] { return shell(cli + "ping") == "PONG\n"; }));
  shell(cli + "debug populate 100000 key 64");
  const std::string digest = shell(cli + "debug digest");
  ASSERT_EQ(digest.size(), 41u) << digest;
  for (int hop = 0; hop < 2; hop++) {
    const Ran dumped = dump(pid, {"--tcp-close"});
    ASSERT_TRUE(dumped.ok()) << dumped.output;
    const Ran restored = restore({"--tcp-close"});
    ASSERT_TRUE(restored.ok()) << restored.output;
    EXPECT_EQ(shell(cli + "debug digest"), digest);
    EXPECT_EQ(shell(cli + "set hop " + std::to_string(hop)), "OK\n");
    EXPECT_EQ(shell(cli + "del hop"), "1\n");
  }
}

TEST_F(CommandTest, leave_running_leaves_no_trace) {
  const pid_t pid = start({"/usr/bin/python3", "-uc", "import time\nwhile True:\n  print(1)\n  time.sleep(0.01)"});
  ASSERT_TRUE(has_printed());
  const auto picture = [&] {
    std::string text = shell(fmt::format(
        "grep -vE 'ctxt|SigQ|VmRSS|Rss|VmPTE|Cpus_allowed_list|State|VmHWM|VmData|VmSize|VmPeak' /proc/{}/status",
        pid));
    text += contents(fmt::format("/proc/{}/maps", pid));
    return text + shell(fmt::format("ls -l /proc/{}/fd | sed 's/.*:..//'; taskset -p {}; chrt -p {}", pid, pid, pid));
  };
  const std::string before = picture();
  const Ran dumped = dump(pid, {"--leave-running"});
  ASSERT_TRUE(dumped.ok()) << dumped.output;
  EXPECT_EQ(picture(), before);
  EXPECT_TRUE(prints());
}

TEST_F(CommandTest, a_stopped_process_stays_stopped_through_it_all) {
  const pid_t pid = start({"/usr/bin/python3", "-uc", "import time\nwhile True:\n  print(1)\n  time.sleep(0.01)"});
  ASSERT_TRUE(has_printed());
  ::kill(pid, SIGSTOP);
  ASSERT_TRUE(wait_for([&] { return state_of(pid) == 'T'; }));
  ASSERT_TRUE(dump(pid, {"--leave-running"}).ok());
  EXPECT_EQ(state_of(pid), 'T');
  const Ran dumped = dump(pid);
  ASSERT_TRUE(dumped.ok()) << dumped.output;
  const Ran restored = restore();
  ASSERT_TRUE(restored.ok()) << restored.output;
  EXPECT_TRUE(wait_for([&] { return state_of(pid) == 'T'; }));
  ::kill(pid, SIGCONT);
  EXPECT_TRUE(prints());
}

// A shell that waits for its child with WUNTRACED and WCONTINUED takes it for stopped for a moment, and for running
// again.
TEST_F(CommandTest, a_parent_that_watches_for_stops_sees_it_go_on) {
  const pid_t parent = start([&] {
    const pid_t child = ::fork();
    if (child == 0)
      for (;;) {
        ::write(1, "tick\n", 5);
        ::usleep(10'000);
      }
    ::write(2, fmt::format("child {}\n", child).c_str(), fmt::format("child {}\n", child).size());
    int last = 0;
    for (;;) {
      int status = 0;
      if (::waitpid(child, &status, WUNTRACED | WCONTINUED) != child) ::_exit(1);
      if (WIFSTOPPED(status)) last = 1;
      if (WIFCONTINUED(status)) last = 2;
      const std::string line = fmt::format("saw {}\n", last);
      ::write(2, line.c_str(), line.size());
    }
  });
  (void)parent;
  ASSERT_TRUE(prints());
  const std::string out = contents(dir_.path("out"));
  const pid_t child = static_cast<pid_t>(std::stol(out.substr(out.find("child ") + 6)));
  for (int i = 0; i < 3; i++) {
    const Ran dumped = dump(child, {"--leave-running"});
    ASSERT_TRUE(dumped.ok()) << dumped.output;
    ASSERT_TRUE(prints(5));
  }
  ::usleep(50'000);
  const std::string all = contents(dir_.path("out"));
  const std::size_t saw = all.rfind("saw ");
  if (saw != std::string::npos) EXPECT_EQ(all[saw + 4], '2') << "the parent believes that its child is stopped";
  EXPECT_NE(state_of(child), 'T');
  ::kill(child, SIGKILL);
}

TEST_F(CommandTest, children_are_dumped_with_their_parent_and_run_on) {
  const pid_t parent = start([] {
    ::signal(SIGCHLD, SIG_IGN);
    if (::fork() == 0) ::execl("/bin/sleep", "sleep", "60", nullptr);
    for (;;) ::pause();
  });
  const auto child = [&] { return std::atoi(shell(fmt::format("pgrep -P {} -x sleep", parent)).c_str()); };
  ASSERT_TRUE(wait_for([&] { return child() > 0; }));
  const Ran dumped = dump(parent, {"--leave-running"});
  EXPECT_TRUE(dumped.ok()) << dumped.output;
  EXPECT_EQ(::access(dir_.path(fmt::format("images{}/core-{}.img", dumps_, child())).c_str(), F_OK), 0);
  EXPECT_EQ(state_of(child()), 'S');
  EXPECT_EQ(state_of(parent), 'S');
  ::kill(child(), SIGKILL);
}

TEST_F(CommandTest, unread_events_are_waited_for_and_then_refused_by_name) {
  const auto body = [this](useconds_t patience) {
    const int watch = ::inotify_init1(IN_NONBLOCK);
    ::inotify_add_watch(watch, dir_.path().c_str(), IN_CREATE);
    ::close(::open(dir_.path("event").c_str(), O_CREAT | O_WRONLY, 0644));
    ::write(1, "ready\n\n", 7);
    ::usleep(patience);
    char events[4096];
    while (::read(watch, events, sizeof events) > 0) {
    }
    ::write(1, "read\n\n", 6);
    for (;;) ::pause();
  };
  const pid_t reads = start([&] { body(700'000); });
  ASSERT_TRUE(has_printed());
  const Ran dumped = dump(reads, {"--leave-running"});
  EXPECT_TRUE(dumped.ok()) << dumped.output;
  EXPECT_NE(contents(dir_.path("out")).find("read\n"), std::string::npos) << "it was dumped with its events";

  ::unlink(dir_.path("event").c_str());
  const pid_t sleeps = start([&] { body(60'000'000); });
  ASSERT_TRUE(has_printed());
  const Ran refused = dump(sleeps, {"--leave-running", "--timeout", "1"});
  EXPECT_FALSE(refused.ok());
  EXPECT_NE(refused.output.find("inotify"), std::string::npos) << refused.output;
  EXPECT_NE(state_of(sleeps), 'T');
}

// What an inotify instance has not been asked for yet keeps a process from being dumped: for 12.5 s here, which is
// longer than a dump waits that is told nothing.
TEST_F(CommandTest, a_dump_waits_as_long_as_it_is_told_to) {
  const pid_t pid = start([this] {
    const int watch = ::inotify_init1(0);
    ::inotify_add_watch(watch, dir_.path().c_str(), IN_CREATE);
    ::close(::open(dir_.path("event").c_str(), O_CREAT | O_WRONLY, 0644));
    ::write(1, "ready\n", 6);
    ::usleep(12'500'000);
    char events[4096];
    ::read(watch, events, sizeof events);
    ::write(1, "read\n", 5);
    for (;;) ::pause();
  });
  const auto begun = Clock::now();
  ASSERT_TRUE(has_printed(1));
  const Ran refused = dump(pid, {"--leave-running", "--timeout", "1"});
  const std::chrono::duration<double> short_wait = Clock::now() - begun;
  EXPECT_FALSE(refused.ok()) << "it cannot have been dumped";
  EXPECT_GE(short_wait.count(), 1);
  EXPECT_LT(short_wait.count(), 5);
  const Ran dumped = dump(pid, {"--leave-running", "--timeout", "30"});
  EXPECT_TRUE(dumped.ok()) << dumped.output;
  EXPECT_NE(contents(dir_.path("out")).find("read\n"), std::string::npos) << "it was dumped with its events";
}

TEST_F(CommandTest, a_restored_process_hears_of_the_death_of_its_new_parent) {
  const pid_t pid = start([] {
    ::signal(SIGUSR2, [](int) { ::write(1, "orphaned\n", 9); });
    ::prctl(PR_SET_PDEATHSIG, SIGUSR2);
    for (;;) {
      ::write(1, "tick\n", 5);
      ::usleep(10'000);
    }
  });
  ASSERT_TRUE(has_printed());
  const Ran dumped = dump(pid);
  ASSERT_TRUE(dumped.ok()) << dumped.output;
  const pid_t parent = ::fork();
  if (parent == 0) {
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (!restore().ok()) ::_exit(1);
    for (;;) ::pause();
  }
  started_.push_back(parent);
  ASSERT_TRUE(prints());
  EXPECT_EQ(contents(dir_.path("out")).find("orphaned"), std::string::npos) << "it heard of a helper's death";
  ::kill(parent, SIGKILL);
  EXPECT_TRUE(wait_for([&] { return contents(dir_.path("out")).find("orphaned") != std::string::npos; }));
}

// A process of two threads in a PID namespace, dumped; and its restore by an engine that runs in that namespace, too.
class PidTest : public CommandTest {
 protected:
  void SetUp() override {
    CommandTest::SetUp();
    ::prctl(PR_SET_CHILD_SUBREAPER, 0);  // the namespace's init reaps
    home_.run(dir_.path("first"), [] {
      next_pid_is(500);
      ::write(1, "done\n", 5);
      for (;;) ::pause();  // whoever is started is looked for
    });
    ASSERT_TRUE(wait_for([&] { return lines_in(dir_.path("first")) > 0; }));
    const pid_t pid = home_.run(dir_.path("out"), [] {
      std::thread([] {
        for (;;) ::pause();
      }).detach();
      for (;;) {
        ::write(1, "tick\n", 5);
        ::usleep(10'000);
      }
    });
    ASSERT_TRUE(has_printed());
    const proc::Reader proc(pid);
    guest_ = proc.status().ns_pid.back();
    guest_thread_ = proc::Reader(pid, proc.threads().back()).status().ns_pid.back();
    const Ran outside = dump(pid);
    EXPECT_FALSE(outside.ok());
    EXPECT_NE(outside.output.find("net namespace"), std::string::npos) << outside.output;
    const Ran dumped = inside("dumped", [&] { return dump(guest_); });
    dumps_++;
    ASSERT_TRUE(dumped.ok()) << dumped.output;
    ASSERT_TRUE(wait_for([&] { return !process_is_there(pid); }));
  }
  // What an engine says that runs in the namespace.
  Ran inside(const std::string& status, const std::function<Ran()>& body) {
    home_.run(dir_.path(status), [&] {
      const Ran ran = body();
      write_file(dir_.path("output"), ran.output, 0644);
      const std::string line = fmt::format("{}\n", ran.status);
      ::write(1, line.data(), line.size());
    });
    Ran ran;
    if (!wait_for([&] { return lines_in(dir_.path(status)) > 0; }, std::chrono::seconds(60)))
      fail(Errc::timed_out, "the engine does not end");
    ran.status = std::stoi(contents(dir_.path(status)));
    ran.output = contents(dir_.path("output"));
    return ran;
  }
  static void next_pid_is(pid_t pid) {
    const std::string text = std::to_string(pid - 1);
    const int fd = ::open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
    if (::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size())) ::_exit(1);
    ::close(fd);
  }
  // The engine's PID there is `engine`, if not 0; `squatter` is taken, if not 0.
  Ran restore_inside(pid_t engine, pid_t squatter = 0) {
    return inside("status", [&] {
      if (squatter) {
        next_pid_is(squatter);
        if (::fork() == 0) {
          ::prctl(PR_SET_NAME, "squatter");
          ::prctl(PR_SET_PDEATHSIG, SIGKILL);
          for (;;) ::pause();
        }
      }
      if (engine) next_pid_is(engine);
      return restore();
    });
  }

  PidNamespace home_;
  pid_t guest_ = 0, guest_thread_ = 0;
};

TEST_F(PidTest, the_helper_of_a_restore_does_not_take_the_pid_that_is_needed) {
  const Ran restored = restore_inside(guest_ - 1);  // the engine's first child in turn would be it
  EXPECT_TRUE(restored.ok()) << restored.output;
  EXPECT_TRUE(prints());
}

TEST_F(PidTest, a_taken_pid_is_refused_with_the_name_of_its_holder) {
  const Ran refused = restore_inside(0, guest_);
  EXPECT_FALSE(refused.ok());
  EXPECT_NE(refused.output.find(fmt::format("PID {} is taken by process {} (squatter)", guest_, guest_)),
            std::string::npos)
      << refused.output;
}

TEST_F(PidTest, a_taken_tid_is_refused_with_the_name_of_its_holder) {
  const Ran refused = restore_inside(0, guest_thread_);
  EXPECT_FALSE(refused.ok());
  EXPECT_NE(refused.output.find(fmt::format("TID {} is taken by process {} (squatter)", guest_thread_, guest_thread_)),
            std::string::npos)
      << refused.output;
}

TEST_F(CommandTest, a_traced_process_is_refused_with_the_name_of_its_tracer) {
  const pid_t pid = start({"sleep", "60"});
  const pid_t tracer = ::fork();
  if (tracer == 0) {
    ::close_range(3, ~0u, 0);
    ::prctl(PR_SET_NAME, "the-tracer");
    ::syscall(101 /* ptrace */, 0x4206 /* PTRACE_SEIZE */, pid, 0, 0);
    ::sleep(30);
    ::_exit(0);
  }
  started_.push_back(tracer);
  ASSERT_TRUE(wait_for([&] {
    return contents(fmt::format("/proc/{}/status", pid)).find(fmt::format("TracerPid:\t{}", tracer)) !=
           std::string::npos;
  }));
  const Ran refused = dump(pid, {"--leave-running"});
  EXPECT_FALSE(refused.ok());
  EXPECT_NE(refused.output.find(std::to_string(tracer)), std::string::npos) << refused.output;
}

}  // namespace
}  // namespace godwit::engine::test
