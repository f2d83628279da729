// What keeps a process from being frozen and may pass by itself: the engine waits, then says what it was.

#include "tests/engine/job_fixture.h"

#include <thread>

#include <sys/inotify.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

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
