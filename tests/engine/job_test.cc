// Engine jobs spoken to as an agent would: a move between two PID namespaces, and the death of the engine at every
// fault point on both sides.

#include "tests/engine/harness.h"

#include "common/base/check.h"

#include <gtest/gtest.h>

#include <csignal>
#include <cstring>
#include <memory>
#include <sys/prctl.h>
#include <random>
#include <sstream>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

volatile std::sig_atomic_t continued = 0;

// Counts loudly; a SIGCONT handler that runs, a sleep that is cut short, a changed PID: each is a line with "bad".
void count() {
  const pid_t pid = ::getpid();
  ::signal(SIGCONT, [](int) { continued = 1; });
  for (long i = 0;; i++) {
    timespec nap{0, 20'000'000};
    const bool disturbed = ::nanosleep(&nap, nullptr) != 0;
    char line[64];
    const int n = std::snprintf(line, sizeof line, "%ld%s%s%s\n", i, disturbed ? " bad sleep" : "",
                                continued ? " bad SIGCONT" : "", ::getpid() != pid ? " bad pid" : "");
    if (::write(1, line, static_cast<std::size_t>(n)) != n) ::_exit(1);
  }
}

// Counts with a child that lives until the file is there.
void count_with_a_child(const std::string& file) {
  ::signal(SIGCHLD, SIG_IGN);  // nobody waits for it
  if (::fork() == 0) {
    ::prctl(PR_SET_NAME, "saving");
    while (::access(file.c_str(), F_OK) != 0) ::usleep(2000);
    ::_exit(0);
  }
  count();
}

UniqueFd make_journal() { return UniqueFd(check(::memfd_create("journal", MFD_CLOEXEC), "create a journal")); }

class JobTest : public ::testing::Test {
 protected:
  virtual void be_target() { count(); }
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    pid_ = home_.run(dir_.path("out"), [this] { be_target(); });
    ASSERT_TRUE(goes_on());
    ::mkdir(spool_.c_str(), 0700);
  }
  bool goes_on() {
    const std::size_t before = lines_in(dir_.path("out"));
    return wait_for([&] { return lines_in(dir_.path("out")) > before + 2; });
  }
  void expect_undisturbed() {
    EXPECT_TRUE(goes_on()) << contents(fmt::format("/proc/{}/status", pid_));
    EXPECT_EQ(contents(dir_.path("out")).find("bad"), std::string::npos) << contents(dir_.path("out"));
    EXPECT_NE(state_of(pid_), 'T');
    EXPECT_EQ(contents(fmt::format("/proc/{}/status", pid_)).find("TracerPid:\t0") == std::string::npos, false);
    EXPECT_EQ(contents(fmt::format("/proc/{}/maps", pid_)).find("rwxp"), std::string::npos) << "scratch memory is left";
  }
  Event survey(JobClient& job) {
    Command c;
    c.mutable_survey()->set_pid(pid_);
    return job.ask(c);
  }
  static Command round(std::uint32_t n) {
    Command c;
    c.mutable_round()->set_number(n);
    return c;
  }
  static Command freeze(std::uint32_t n, const TestCgroup& cgroup) {
    Command c;
    c.mutable_freeze()->set_number(n);
    c.mutable_freeze()->set_cgroup(cgroup.path());
    c.mutable_freeze()->set_child_patience_ms(500);
    return c;
  }
  Event prepare(JobClient& job, const TestCgroup& cgroup, int init) {
    Command c;
    c.mutable_prepare()->set_cgroup(cgroup.path());
    c.mutable_prepare()->set_has_init(true);
    UniqueFd spool = open_file(spool_, O_RDONLY | O_DIRECTORY);
    UniqueFd directory = open_file(cgroup.path(), O_RDONLY | O_DIRECTORY);
    return job.ask(c, {spool.get(), init, directory.get()});
  }
  Event ask_pumping(JobClient& job, Command c, std::uint64_t id, Pump& pump) {
    c.set_id(id);
    job.post(c);
    return job.await(id, [&] { pump(); });
  }

  // From one namespace to the other, with `between` after each of three rounds.
  void move(const std::function<void(int round)>& between) {
    UniqueFd source_journal = make_journal(), destination_journal = make_journal();
    JobClient source(source_journal.get(), true), destination(destination_journal.get(), false);
    ASSERT_TRUE(survey(source).has_surveyed());
    ASSERT_TRUE(prepare(destination, destination_cgroup_, away_.init()).has_done());
    Pump pump(source, destination, spool_);
    for (std::uint32_t n = 0; n < 3; n++) {
      const Event done = ask_pumping(source, round(n), 1000 + n, pump);
      ASSERT_TRUE(done.has_round_done()) << done.failure().message();
      pump();
      between(static_cast<int>(n));
    }
    const Event frozen = ask_pumping(source, freeze(3, source_cgroup_), 2000, pump);
    ASSERT_TRUE(frozen.has_frozen()) << frozen.failure().message();
    pump();
    Command finish;
    finish.mutable_finish()->set_sequence(frozen.frozen().round().last_sequence());
    const Event prepared = ask_pumping(destination, finish, 3000, pump);
    ASSERT_TRUE(prepared.has_prepared()) << prepared.failure().message();
    write_file(source_cgroup_.path() + "/cgroup.kill", "1");
    EXPECT_TRUE(wait_for([&] { return !process_is_there(pid_); }));
    destination_cgroup_.thaw();
    pid_ = prepared.prepared().tasks(0).pid();
  }

  TempDir dir_;
  std::string spool_ = dir_.path("spool");
  PidNamespace home_, away_;
  TestCgroup source_cgroup_{"src"}, destination_cgroup_{"dst"};
  pid_t pid_ = -1;
};

TEST_F(JobTest, moves_a_running_process_between_namespaces) {
  UniqueFd source_journal = make_journal(), destination_journal = make_journal();
  JobClient source(source_journal.get(), true), destination(destination_journal.get(), false);
  const Event surveyed = survey(source);
  ASSERT_TRUE(surveyed.has_surveyed()) << surveyed.failure().message();
  ASSERT_EQ(surveyed.surveyed().refusals_size(), 0) << surveyed.surveyed().refusals(0).what();
  ASSERT_TRUE(prepare(destination, destination_cgroup_, away_.init()).has_done());
  Pump pump(source, destination, spool_);
  for (std::uint32_t n = 0; n < 3; n++) {
    const Event done = ask_pumping(source, round(n), 1000 + n, pump);
    ASSERT_TRUE(done.has_round_done()) << done.failure().message();
    ASSERT_TRUE(goes_on());
  }
  const Event frozen = ask_pumping(source, freeze(3, source_cgroup_), 2000, pump);
  ASSERT_TRUE(frozen.has_frozen()) << frozen.failure().message();
  EXPECT_TRUE(source_cgroup_.frozen());
  pump();
  Command finish;
  finish.mutable_finish()->set_sequence(frozen.frozen().round().last_sequence());
  const Event prepared = ask_pumping(destination, finish, 3000, pump);
  ASSERT_TRUE(prepared.has_prepared()) << prepared.failure().message();
  EXPECT_EQ(destination.wait_end(), 0);
  EXPECT_TRUE(destination_cgroup_.frozen());
  EXPECT_EQ(prepared.prepared().tasks(0).guest_pid(), surveyed.surveyed().tasks(0).guest_pid());

  write_file(source_cgroup_.path() + "/cgroup.kill", "1");
  EXPECT_TRUE(wait_for([&] { return !process_is_there(pid_); }));
  destination_cgroup_.thaw();
  pid_ = prepared.prepared().tasks(0).pid();
  expect_undisturbed();
}

TEST_F(JobTest, thaws_what_it_froze_and_goes_on_tracking) {
  UniqueFd source_journal = make_journal(), destination_journal = make_journal();
  JobClient source(source_journal.get(), true), destination(destination_journal.get(), false);
  ASSERT_TRUE(survey(source).has_surveyed());
  ASSERT_TRUE(prepare(destination, destination_cgroup_, away_.init()).has_done());
  Pump pump(source, destination, spool_);
  ASSERT_TRUE(ask_pumping(source, round(0), 1000, pump).has_round_done());
  ASSERT_TRUE(ask_pumping(source, freeze(1, source_cgroup_), 1001, pump).has_frozen());
  Command thaw;
  thaw.mutable_thaw();
  ASSERT_TRUE(source.ask(thaw).has_done());
  expect_undisturbed();
  ASSERT_TRUE(ask_pumping(source, round(2), 1002, pump).has_round_done());
  const Event frozen = ask_pumping(source, freeze(3, source_cgroup_), 1003, pump);
  ASSERT_TRUE(frozen.has_frozen()) << frozen.failure().message();
  pump();
  Command finish;
  finish.mutable_finish()->set_sequence(frozen.frozen().round().last_sequence());
  const Event prepared = ask_pumping(destination, finish, 3000, pump);
  ASSERT_TRUE(prepared.has_prepared()) << prepared.failure().message();
  write_file(source_cgroup_.path() + "/cgroup.kill", "1");
  destination_cgroup_.thaw();
  pid_ = prepared.prepared().tasks(0).pid();
  expect_undisturbed();
}

TEST_F(JobTest, a_taken_pid_is_named) {
  UniqueFd journal = make_journal(), other = make_journal();
  JobClient source(journal.get(), true), destination(other.get(), false);
  ASSERT_TRUE(survey(source).has_surveyed());
  ASSERT_TRUE(prepare(destination, destination_cgroup_, home_.init()).has_done());  // where it runs still
  Pump pump(source, destination, spool_);
  ASSERT_TRUE(ask_pumping(source, round(0), 1000, pump).has_round_done());
  try {
    ask_pumping(
        destination,
        [] {
          Command c;
          c.mutable_finish()->set_sequence(1'000'000);
          return c;
        }(),
        3000, pump);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::already_exists) << e.message();
  }
  expect_undisturbed();
}

class ChildTest : public JobTest {
 protected:
  void be_target() override { count_with_a_child(end_); }

  const std::string end_ = dir_.path("end");
};

TEST_F(ChildTest, one_that_ends_is_waited_for) {
  UniqueFd source_journal = make_journal(), destination_journal = make_journal();
  JobClient source(source_journal.get(), true), destination(destination_journal.get(), false);
  ASSERT_TRUE(survey(source).has_surveyed());
  ASSERT_TRUE(prepare(destination, destination_cgroup_, away_.init()).has_done());
  Pump pump(source, destination, spool_);
  ASSERT_TRUE(ask_pumping(source, round(0), 1000, pump).has_round_done());
  Command c = freeze(1, source_cgroup_);
  c.mutable_freeze()->set_child_patience_ms(20'000);
  c.set_id(1001);
  source.post(c);
  const auto ends_at = std::chrono::steady_clock::now() + std::chrono::milliseconds(200);
  const Event frozen = source.await(1001, [&] {
    pump();
    if (std::chrono::steady_clock::now() > ends_at) write_file(end_, "");
  });
  ASSERT_TRUE(frozen.has_frozen()) << frozen.failure().message();
  Command finish;
  finish.mutable_finish()->set_sequence(frozen.frozen().round().last_sequence());
  const Event prepared = ask_pumping(destination, finish, 3000, pump);
  ASSERT_TRUE(prepared.has_prepared()) << prepared.failure().message();
  write_file(source_cgroup_.path() + "/cgroup.kill", "1");
  destination_cgroup_.thaw();
  pid_ = prepared.prepared().tasks(0).pid();
  expect_undisturbed();
}

TEST_F(ChildTest, one_that_stays_is_named_and_the_process_goes_on) {
  UniqueFd journal = make_journal(), other = make_journal();
  JobClient source(journal.get(), true), destination(other.get(), false);
  ASSERT_TRUE(survey(source).has_surveyed());
  ASSERT_TRUE(prepare(destination, destination_cgroup_, away_.init()).has_done());
  Pump pump(source, destination, spool_);
  ASSERT_TRUE(ask_pumping(source, round(0), 1000, pump).has_round_done());
  const Event refused = ask_pumping(source, freeze(1, source_cgroup_), 1001, pump);
  ASSERT_TRUE(refused.has_failure());
  EXPECT_EQ(refused.failure().code(), "busy");
  EXPECT_NE(refused.failure().message().find("(saving)"), std::string::npos) << refused.failure().message();
  expect_undisturbed();
  ASSERT_TRUE(ask_pumping(source, round(2), 1002, pump).has_round_done()) << "it is not tracked any more";
}

class ExecTest : public JobTest {
  void be_target() override {
    std::thread([this] {
      while (::access(dir_.path("exec").c_str(), F_OK) != 0) ::usleep(2000);
      ::execl("/usr/bin/python3", "python3", "-uc",
              "import time\nn = 0\nwhile True:\n  print('python', n)\n  n += 1\n  time.sleep(0.01)", nullptr);
      ::_exit(1);
    }).detach();
    count();
  }
};

TEST_F(ExecTest, a_program_run_between_two_rounds_is_what_arrives) {
  move([this](int round) {
    if (round != 0) return;
    write_file(dir_.path("exec"), "", 0644);
    ASSERT_TRUE(wait_for([&] { return contents(dir_.path("out")).find("python 3\n") != std::string::npos; }));
  });
  expect_undisturbed();
  // It counts on: its own memory came along, not a fresh start of it.
  const std::string out = contents(dir_.path("out"));
  std::istringstream lines(out.substr(out.find("python")));
  std::string word;
  for (long expected = 0, n = 0; lines >> word >> n; expected++) ASSERT_EQ(n, expected) << out;
}

// Maps, unmaps, grows, protects and fills memory all the time, and says so when something is not as it left it.
class RemapTest : public JobTest {
  struct Area {
    char* at = nullptr;
    std::size_t pages = 0;
    char fill = 0;
    bool writable = false;
  };
  static bool holds(const Area& area) {
    for (std::size_t i = 0; i < area.pages * page_size; i++)
      if (area.at[i] != area.fill) return false;
    return true;
  }
  void be_target() override {
    std::vector<Area> areas;
    std::mt19937 random(7);
    for (long n = 0;; n++) {
      const std::size_t pages = 1 + random() % 64;
      if (areas.size() < 40 || random() % 3 == 0) {
        Area& a = areas.emplace_back(Area{.pages = pages, .fill = static_cast<char>(1 + n % 100), .writable = true});
        a.at = static_cast<char*>(
            ::mmap(nullptr, pages * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        std::memset(a.at, a.fill, pages * page_size);
      }
      const std::size_t which = random() % areas.size();
      Area& a = areas[which];
      bool bad = !holds(a);
      switch (random() % 4) {
        case 0:
          ::munmap(a.at, a.pages * page_size);
          areas.erase(areas.begin() + static_cast<std::ptrdiff_t>(which));
          break;
        case 1: {
          if (!a.writable) break;
          void* const at = ::mremap(a.at, a.pages * page_size, (a.pages + pages) * page_size, MREMAP_MAYMOVE);
          if (at == MAP_FAILED) {
            bad |= errno != EFAULT;
            ::write(1, "split\n", 6);
            break;
          }
          a.at = static_cast<char*>(at);
          std::memset(a.at + a.pages * page_size, a.fill, pages * page_size);
          a.pages += pages;
          break;
        }
        case 2:
          a.writable = !a.writable;
          ::mprotect(a.at, a.pages * page_size, a.writable ? PROT_READ | PROT_WRITE : PROT_READ);
          break;
        default:
          if (a.writable) std::memset(a.at, a.fill = static_cast<char>(1 + random() % 100), a.pages * page_size);
      }
      if (n % 16 == 0)
        for (const Area& each : areas) bad |= !holds(each);
      char line[64];
      const int length = std::snprintf(line, sizeof line, "%ld%s\n", n, bad ? " bad area" : "");
      if (::write(1, line, static_cast<std::size_t>(length)) != length) ::_exit(1);
      ::usleep(1000);
    }
  }
};

TEST_F(RemapTest, mappings_that_change_between_rounds_arrive_as_they_are) {
  move([this](int) { ASSERT_TRUE(goes_on()); });
  expect_undisturbed();
}

class ScratchTest : public JobTest {
 protected:
  static constexpr std::size_t size = 128 * page_size;

  void be_target() override {
    char* at = nullptr;
    for (long n = 0;; n++) {
      if (!at && ::access(dir_.path("map").c_str(), F_OK) == 0) {
        const auto wanted = std::stoull(contents(dir_.path("map")), nullptr, 16);
        at = static_cast<char*>(::mmap(reinterpret_cast<void*>(wanted), size, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
        if (at == MAP_FAILED) ::_exit(1);
        std::memset(at, 'm', size);
      }
      bool bad = false;
      for (std::size_t i = 0; at && i < size; i++) bad |= at[i] != 'm';
      char line[64];
      const int length = std::snprintf(line, sizeof line, "%ld%s%s\n", n, at ? " mapped" : "", bad ? " bad" : "");
      if (::write(1, line, static_cast<std::size_t>(length)) != length) ::_exit(1);
      ::usleep(5000);
    }
  }
  // Where the engine has its own memory in the process that it builds; 0: not there yet.
  std::uint64_t scratch() {
    const std::string procs = contents(destination_cgroup_.path() + "/cgroup.procs");
    if (procs.empty()) return 0;
    std::istringstream maps(contents(fmt::format("/proc/{}/maps", std::stol(procs))));
    for (std::string line; std::getline(maps, line);)
      if (line.find(" rwxp ") != std::string::npos) return std::stoull(line, nullptr, 16);
    return 0;
  }
};

TEST_F(ScratchTest, memory_mapped_where_the_engine_has_its_own_makes_that_move) {
  move([this](int round) {
    if (round != 0) return;
    ASSERT_TRUE(wait_for([&] { return scratch() != 0; }));
    write_file(dir_.path("map.draft"), fmt::format("{:x}", scratch()), 0644);
    ASSERT_EQ(::rename(dir_.path("map.draft").c_str(), dir_.path("map").c_str()), 0);
    ASSERT_TRUE(wait_for([&] { return contents(dir_.path("out")).find("mapped") != std::string::npos; }));
  });
  expect_undisturbed();
  EXPECT_TRUE(contents(dir_.path("out")).ends_with("mapped\n"));
}

// Has events in an inotify queue that it does not read before it is told to.
class BusyTest : public JobTest {
 protected:
  void be_target() override {
    const int watch = ::inotify_init1(IN_NONBLOCK);
    ::inotify_add_watch(watch, dir_.path().c_str(), IN_CREATE);
    write_file(dir_.path("event"), "", 0644);
    std::thread([this, watch] {
      while (::access(dir_.path("drain").c_str(), F_OK) != 0) ::usleep(2000);
      char events[4096];
      while (::read(watch, events, sizeof events) > 0) {
      }
    }).detach();
    count();
  }
};

TEST_F(BusyTest, what_passes_by_itself_is_waited_for) {
  UniqueFd journal = make_journal();
  JobClient source(journal.get(), true);
  ASSERT_TRUE(survey(source).has_surveyed());
  Command c = freeze(0, source_cgroup_);
  c.mutable_freeze()->set_child_patience_ms(20'000);
  c.set_id(1000);
  source.post(c);
  const auto begun = Clock::now();
  const Event frozen = source.await(1000, [&] {
    while (source.ring().front()) source.ring().release();
    if (Clock::now() - begun > std::chrono::milliseconds(200)) write_file(dir_.path("drain"), "", 0644);
  });
  ASSERT_TRUE(frozen.has_frozen()) << frozen.failure().message();
  EXPECT_GE(Clock::now() - begun, std::chrono::milliseconds(200));
  Command thaw;
  thaw.mutable_thaw();
  ASSERT_TRUE(source.ask(thaw).has_done());
  expect_undisturbed();
}

TEST_F(BusyTest, what_does_not_pass_is_refused_by_name) {
  UniqueFd journal = make_journal();
  JobClient source(journal.get(), true);
  ASSERT_TRUE(survey(source).has_surveyed());
  const Event answer = source.ask(freeze(0, source_cgroup_));
  ASSERT_TRUE(answer.has_failure());
  EXPECT_EQ(answer.failure().code(), "busy");
  EXPECT_NE(answer.failure().message().find("inotify"), std::string::npos) << answer.failure().message();
  expect_undisturbed();
}

class SourceDeath : public JobTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(SourceDeath, leaves_the_target_running_and_whole) {
  UniqueFd journal = make_journal();
  {
    JobClient source(journal.get(), true, std::string(GetParam()) + "=kill");
    ASSERT_TRUE(survey(source).has_surveyed());
    try {
      Command c = freeze(0, source_cgroup_);
      c.set_id(1000);
      source.post(c);
      source.await(1000, [&] {
        while (source.ring().front()) source.ring().release();
      });
      ADD_FAILURE() << "the engine outlived " << GetParam();
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::peer_lost) << e.message();
    }
    EXPECT_EQ(WTERMSIG(source.wait_end()), SIGKILL);
  }
  EXPECT_TRUE(process_is_there(pid_));
  ::usleep(20'000);
  JobClient fresh(journal.get(), false);
  Command recover;
  recover.mutable_recover()->set_pid(pid_);
  recover.mutable_recover()->set_cgroup(source_cgroup_.path());
  recover.mutable_recover()->set_release(true);
  const Event done = fresh.ask(recover);
  EXPECT_TRUE(done.has_done()) << done.failure().message();
  expect_undisturbed();
}

INSTANTIATE_TEST_SUITE_P(AtEveryPoint, SourceDeath,
                         ::testing::Values("engine.hold.stopped", "engine.hold.seized", "engine.inject.scratch",
                                           "engine.inject.batch", "engine.dump.frozen", "engine.dump.state",
                                           "engine.dump.held"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

class DestinationDeath : public JobTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(DestinationDeath, leaves_nothing_behind_and_the_source_can_go_on) {
  UniqueFd journal = make_journal(), other = make_journal();
  JobClient source(journal.get(), true);
  ASSERT_TRUE(survey(source).has_surveyed());
  {
    JobClient destination(other.get(), false, std::string(GetParam()) + "=kill");
    ASSERT_TRUE(prepare(destination, destination_cgroup_, away_.init()).has_done());
    Pump pump(source, destination, spool_);
    ASSERT_TRUE(ask_pumping(source, round(0), 1000, pump).has_round_done());
    const Event frozen = ask_pumping(source, freeze(1, source_cgroup_), 1001, pump);
    ASSERT_TRUE(frozen.has_frozen()) << frozen.failure().message();
    try {
      pump();
      Command finish;
      finish.mutable_finish()->set_sequence(frozen.frozen().round().last_sequence());
      ask_pumping(destination, finish, 3000, pump);
      ADD_FAILURE() << "the engine outlived " << GetParam();
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::peer_lost) << e.message();
    }
    destination.wait_end();
  }
  EXPECT_TRUE(wait_for([&] { return contents(destination_cgroup_.path() + "/cgroup.procs").empty(); }))
      << "a half-built task outlives its engine";
  Command thaw;
  thaw.mutable_thaw();
  EXPECT_TRUE(source.ask(thaw).has_done());
  expect_undisturbed();
}

INSTANTIATE_TEST_SUITE_P(AtEveryPoint, DestinationDeath,
                         ::testing::Values("engine.restore.spawned", "engine.restore.cleared", "engine.restore.filled",
                                           "engine.restore.fds", "engine.restore.threads", "engine.restore.registers",
                                           "engine.restore.held"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::ranges::replace(name, '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace godwit::engine::test
