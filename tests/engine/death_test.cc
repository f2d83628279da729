// The death of the engine at every fault point, on both sides.

#include "tests/engine/job_fixture.h"

#include "agent/engine/memory/aio_ring.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/proc/reader.h"
#include "tests/support/aio_request.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <map>
#include <span>
#include <thread>

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

std::string test_name(const ::testing::TestParamInfo<const char*>& info) {
  std::string name = info.param;
  std::ranges::replace(name, '.', '_');
  return name;
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
                         test_name);

// A target whose second thread is asked about itself like the first.
class RecoveryDeath : public JobTest {
  void be_target() override {
    std::thread([] {
      for (;;) ::pause();
    }).detach();
    count();
  }

 protected:
  Event recover(JobClient& engine) {
    Command recover;
    recover.mutable_recover()->set_pid(pid_);
    recover.mutable_recover()->set_cgroup(source_cgroup_.path());
    recover.mutable_recover()->set_release(true);
    return engine.ask(recover);
  }
};

// Where the threads of a stopped process would go on: the last word of /proc/TID/syscall.
std::vector<std::uint64_t> instructions_of(pid_t pid) {
  std::vector<std::uint64_t> all;
  for (const pid_t tid : proc::Reader(pid).threads()) {
    const std::string text = contents(fmt::format("/proc/{}/task/{}/syscall", pid, tid));
    all.push_back(std::stoull(text.substr(text.rfind(' ') + 1), nullptr, 16));
  }
  return all;
}

TEST_F(RecoveryDeath, leaves_no_thread_where_nothing_is_mapped_any_more) {
  UniqueFd journal = make_journal();
  {
    JobClient source(journal.get(), true, "engine.dump.state=kill");
    ASSERT_TRUE(survey(source).has_surveyed());
    Command c = freeze(0, source_cgroup_);
    c.set_id(1000);
    source.post(c);
    EXPECT_THROW(source.await(1000,
                              [&] {
                                while (source.ring().front()) source.ring().release();
                              }),
                 Error);
  }
  {
    JobClient fresh(journal.get(), false, "engine.recover.unmapped=kill");
    EXPECT_THROW(recover(fresh), Error);
    EXPECT_EQ(WTERMSIG(fresh.wait_end()), SIGKILL);
  }
  ASSERT_TRUE(wait_for([&] { return proc::Reader(pid_).status().tracer_pid == 0; }));
  ::usleep(20'000);
  const std::vector<proc::Vma> maps = proc::Reader(pid_).maps();
  const std::vector<std::uint64_t> instructions = instructions_of(pid_);
  EXPECT_EQ(instructions.size(), 2u);
  for (const std::uint64_t at : instructions)
    EXPECT_TRUE(std::ranges::any_of(maps, [&](const proc::Vma& vma) { return vma.start <= at && at < vma.end; }))
        << "a thread stands at " << std::hex << at;
  JobClient last(journal.get(), false);
  const Event done = recover(last);
  EXPECT_TRUE(done.has_done()) << done.failure().message();
  expect_undisturbed();
}

using Cpus = std::array<std::byte, 128>;

Cpus cpus_of(pid_t tid) {
  Cpus cpus{};
  check(::syscall(SYS_sched_getaffinity, tid, cpus.size(), cpus.data()), "ask for the CPUs of {}", tid);
  return cpus;
}

std::map<pid_t, Cpus> cpus_of_threads(pid_t pid) {
  std::map<pid_t, Cpus> all;
  for (const pid_t tid : proc::Reader(pid).threads()) all[tid] = cpus_of(tid);
  return all;
}

// Threads are brought to the engine's CPU before they are seized, when nothing else of them is in the journal yet.
TEST_F(RecoveryDeath, takes_threads_back_to_their_cpus) {
  const std::map<pid_t, Cpus> before = cpus_of_threads(pid_);
  UniqueFd journal = make_journal();
  {
    JobClient source(journal.get(), true, "engine.hold.seized=kill");
    ASSERT_TRUE(survey(source).has_surveyed());
    Command c = freeze(0, source_cgroup_);
    c.set_id(1000);
    source.post(c);
    EXPECT_THROW(source.await(1000, [] {}), Error);
    EXPECT_EQ(WTERMSIG(source.wait_end()), SIGKILL);
  }
  const bool has_others = std::thread::hardware_concurrency() > 1;
  EXPECT_EQ(cpus_of_threads(pid_) != before, has_others) << "no thread was moved";
  JobClient last(journal.get(), false);
  const Event done = recover(last);
  EXPECT_TRUE(done.has_done()) << done.failure().message();
  EXPECT_EQ(cpus_of_threads(pid_), before);
  expect_undisturbed();
}

std::uint64_t open_descriptors() {
  std::uint64_t open = 0;
  for (int fd = 0; fd < 64; fd++)
    if (::fcntl(fd, F_GETFD) >= 0) open |= 1ull << fd;
  return open;
}

bool has_native_aio() {
  aio_context_t context = 0;
  if (::syscall(SYS_io_setup, 1000, &context) != 0) return false;
  ::syscall(SYS_io_destroy, context);
  return true;
}

// A target with completed AIO requests that it has not fetched, which looks all the time whether they are there. Or one
// that has none, but one in flight.
class RingDeath : public RecoveryDeath, public ::testing::WithParamInterface<std::uint32_t> {
  struct Ring {
    std::uint32_t id, capacity, head, tail, words[4];
    io_event events[1];
  };

  void be_target() override {
    aio_context_t context = 0;
    const int empty = ::eventfd(0, EFD_NONBLOCK);
    io_event fetched{};
    bool made = ::syscall(SYS_io_setup, 1000, &context) == 0;
    for (std::uint64_t i = 0; made && i < 5 + GetParam(); i++) {
      made = submit_aio(context, IOCB_CMD_PREAD, empty, i);
      if (made && i < 5) made = ::syscall(SYS_io_getevents, context, 1, 1, &fetched, nullptr) == 1;
    }
    if (GetParam() == 0 && !submit_aio(context, IOCB_CMD_POLL, empty, 0)) made = false;
    const std::uint64_t descriptors = open_descriptors();
    std::thread([context, made, descriptors, unfetched = GetParam()] {
      const Ring& ring = *reinterpret_cast<const Ring*>(context);
      for (;; ::usleep(1000)) {
        bool good = made && ring.head == 5 && ring.tail == 5 + unfetched && open_descriptors() == descriptors;
        for (std::uint32_t i = 5; good && i < 5 + unfetched; i++) good = ring.events[i].data == i;
        if (!good && ::write(1, "bad ring\n", 9) != 9) ::_exit(1);
      }
    }).detach();
    count();
  }

 protected:
  void SetUp() override {
    if (!has_native_aio()) GTEST_SKIP() << "this machine has no native AIO, or no room for more of it";
    RecoveryDeath::SetUp();
  }
};

TEST_P(RingDeath, in_a_look_at_its_rings_leaves_them_whole) {
  UniqueFd journal = make_journal();
  {
    JobClient source(journal.get(), true, "engine.aio.run=kill");
    ASSERT_TRUE(survey(source).has_surveyed());
    EXPECT_THROW(source.ask(freeze(0, source_cgroup_)), Error);
    EXPECT_EQ(WTERMSIG(source.wait_end()), SIGKILL);
  }
  {  // who puts it back does what the look does, and may die as that did
    ASSERT_TRUE(wait_for([&] { return proc::Reader(pid_).status().tracer_pid == 0; }));
    JobClient fresh(journal.get(), false, "engine.recover.aio=kill");
    EXPECT_THROW(recover(fresh), Error);
    EXPECT_EQ(WTERMSIG(fresh.wait_end()), SIGKILL);
  }
  JobClient last(journal.get(), false);
  const Event done = recover(last);
  EXPECT_TRUE(done.has_done()) << done.failure().message();
  expect_undisturbed();
}

TEST_P(RingDeath, of_a_command_leaves_them_whole) {
  const Ran ran = run_engine({"dump", "-t", std::to_string(pid_), "-D", dir_.path("images"), "--leave-running"},
                             "engine.aio.run=kill", pid_);
  EXPECT_TRUE(WIFSIGNALED(ran.status) && WTERMSIG(ran.status) == SIGKILL) << ran.output;
  expect_undisturbed();
}

TEST_P(RingDeath, or_a_failure_leaves_them_whole) {
  const Ran ran = run_engine({"dump", "-t", std::to_string(pid_), "-D", dir_.path("images"), "--leave-running"},
                             "engine.aio.run=fail", pid_);
  EXPECT_FALSE(ran.ok()) << ran.output;
  expect_undisturbed();
}

INSTANTIATE_TEST_SUITE_P(OfUnfetchedEvents, RingDeath, ::testing::Values(0u, 700u),
                         ::testing::PrintToStringParamName());

// Whoever inherited the mapping of a ring can write into it, too.
class OverwrittenRingDeath : public RecoveryDeath {
  void be_target() override {
    aio_context_t context = 0;
    const int empty = ::eventfd(0, EFD_NONBLOCK);
    if (::syscall(SYS_io_setup, 100, &context) == 0) submit_aio(context, IOCB_CMD_PREAD, empty, 1);
    count();
  }

 protected:
  void SetUp() override {
    if (!has_native_aio()) GTEST_SKIP() << "this machine has no native AIO, or no room for more of it";
    RecoveryDeath::SetUp();
  }
};

TEST_F(OverwrittenRingDeath, leaves_the_target_running) {
  const std::vector<int> descriptors = proc::Reader(pid_).fds();
  UniqueFd journal = make_journal();
  {
    JobClient source(journal.get(), true, "engine.aio.run=kill");
    ASSERT_TRUE(survey(source).has_surveyed());
    EXPECT_THROW(source.ask(freeze(0, source_cgroup_)), Error);
  }
  ASSERT_TRUE(wait_for([&] { return proc::Reader(pid_).status().tracer_pid == 0; }));
  const std::vector<proc::Vma> maps = proc::Reader(pid_).maps();
  const auto ring = std::ranges::find_if(maps, is_aio_ring);
  ASSERT_NE(ring, maps.end());
  const UniqueFd memory = open_file(fmt::format("/proc/{}/mem", pid_), O_RDWR);
  const std::uint32_t beyond = ~0u;
  pwrite_all(memory.get(), std::as_bytes(std::span(&beyond, 1)),
             static_cast<off_t>(ring->start + offsetof(AioRing, tail)));
  JobClient fresh(journal.get(), false);
  const Event done = recover(fresh);
  EXPECT_TRUE(done.has_done()) << done.failure().message();
  expect_undisturbed();
  EXPECT_EQ(proc::Reader(pid_).fds(), descriptors);
}

class CommandDeath : public JobTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(CommandDeath, leaves_the_target_running_and_whole) {
  const std::string kill = std::string(GetParam()) + "=kill";
  for (const char* how : {"--leave-stopped", "--leave-running"}) {
    const Ran ran =
        run_engine({"dump", "-t", std::to_string(pid_), "-D", dir_.path("images"), "--tcp-close", how}, kill, pid_);
    EXPECT_TRUE(WIFSIGNALED(ran.status) && WTERMSIG(ran.status) == SIGKILL) << ran.output;
    expect_undisturbed();
  }
}

INSTANTIATE_TEST_SUITE_P(AtEveryPoint, CommandDeath,
                         ::testing::Values("engine.hold.stopped", "engine.hold.seized", "engine.inject.scratch",
                                           "engine.inject.batch", "engine.dump.frozen", "engine.dump.state"),
                         test_name);

class ResumeDeath : public JobTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(ResumeDeath, leaves_it_stopped_and_resumable) {
  const std::string pid = std::to_string(pid_);
  const Ran dumped = run_engine({"dump", "-t", pid, "-D", dir_.path("images"), "--leave-stopped"}, {}, pid_);
  ASSERT_TRUE(dumped.ok()) << dumped.output;
  const Ran resumed = run_engine({"resume", "-t", pid}, std::string(GetParam()) + "=kill");
  EXPECT_TRUE(WIFSIGNALED(resumed.status) && WTERMSIG(resumed.status) == SIGKILL) << resumed.output;
  Ran again;  // it is as it was, stopped and none the wiser, when what was borrowed is back
  wait_for([&] { return (again = run_engine({"resume", "-t", pid})).ok(); });
  EXPECT_TRUE(again.ok()) << again.output;
  expect_undisturbed();
}

INSTANTIATE_TEST_SUITE_P(AtEveryPoint, ResumeDeath, ::testing::Values("engine.hold.stopped", "engine.hold.seized"),
                         test_name);

class DestinationDeath : public JobTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(DestinationDeath, leaves_nothing_behind_and_the_source_can_go_on) {
  Jobs jobs(spool_, std::string(GetParam()) + "=kill");
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  const Event frozen = jobs.ask(jobs.source, freeze(1, source_cgroup_));
  ASSERT_TRUE(frozen.has_frozen()) << frozen.failure().message();
  try {
    finish(jobs, frozen);
    ADD_FAILURE() << "the engine outlived " << GetParam();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::peer_lost) << e.message();
  }
  jobs.destination.wait_end();
  EXPECT_TRUE(wait_for([&] { return contents(destination_cgroup_.path() + "/cgroup.procs").empty(); }))
      << "a half-built task outlives its engine";
  Command thaw;
  thaw.mutable_thaw();
  EXPECT_TRUE(jobs.source.ask(thaw).has_done());
  expect_undisturbed();
}

INSTANTIATE_TEST_SUITE_P(AtEveryPoint, DestinationDeath,
                         ::testing::Values("engine.restore.spawned", "engine.restore.cleared", "engine.restore.filled",
                                           "engine.restore.fds", "engine.restore.threads", "engine.restore.registers",
                                           "engine.restore.held"),
                         test_name);

}  // namespace
}  // namespace godwit::engine::test
