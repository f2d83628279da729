// What keeps a process from being frozen and may pass by itself: the engine waits, then says what it was.

#include "tests/engine/job_fixture.h"

#include <csignal>

#include <sys/inotify.h>
#include <sys/prctl.h>
#include <thread>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

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

class ChildTest : public JobTest {
 protected:
  void be_target() override { count_with_a_child(end_); }

  const std::string end_ = dir_.path("end");
};

TEST_F(ChildTest, one_that_ends_is_waited_for) {
  Jobs jobs(spool_);
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  Command c = freeze(1, source_cgroup_);
  c.mutable_freeze()->set_child_patience_ms(20'000);
  c.set_id(2000);
  jobs.source.post(c);
  const auto ends_at = Clock::now() + std::chrono::milliseconds(200);
  const Event frozen = jobs.source.await(2000, [&] {
    jobs.carry();
    if (Clock::now() > ends_at) write_file(end_, "");
  });
  expect_arrival(jobs, frozen);
  expect_undisturbed();
}

TEST_F(ChildTest, one_that_stays_is_named_and_the_process_goes_on) {
  Jobs jobs(spool_);
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  const Event refused = jobs.ask(jobs.source, freeze(1, source_cgroup_));
  ASSERT_TRUE(refused.has_failure());
  EXPECT_EQ(refused.failure().code(), "busy");
  EXPECT_NE(refused.failure().message().find("(saving)"), std::string::npos) << refused.failure().message();
  expect_undisturbed();
  ASSERT_TRUE(jobs.ask(jobs.source, round(2)).has_round_done()) << "it is not tracked any more";
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

}  // namespace
}  // namespace godwit::engine::test
