// The death of the engine at every fault point, on both sides.

#include "tests/engine/job_fixture.h"

#include "common/base/check.h"

#include <algorithm>
#include <csignal>

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
