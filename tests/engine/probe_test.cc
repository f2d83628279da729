// How fast a process writes is found without moving anything of it, and nothing of that stays.

#include "tests/engine/job_fixture.h"

#include "common/base/check.h"

#include <gmock/gmock.h>

#include <csignal>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

// Writes one page after the other, round and round, and tells how many it has written by now.
class ProbeTest : public JobTest {
 protected:
  static constexpr long pages = 1024;
  static constexpr std::uint64_t others = 64;  // pages that a program writes beside: its stack, its C library's

  void be_target() override {
    char* const at = static_cast<char*>(
        ::mmap(nullptr, pages * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    for (long n = 0;; n++) {
      at[n % pages * long{page_size}]++;
      char line[64];
      const int length = std::snprintf(line, sizeof line, "%ld\n", n + 1);
      if (::write(1, line, static_cast<std::size_t>(length)) != length) ::_exit(1);
      ::usleep(2000);
    }
  }
  std::uint64_t written() { return lines_in(dir_.path("out")); }
  static Command probe(std::uint32_t milliseconds) {
    Command c;
    c.mutable_probe()->set_milliseconds(milliseconds);
    return c;
  }
  void expect_untracked() {
    EXPECT_EQ(contents(fmt::format("/proc/{}/smaps", pid_)).find(" uw"), std::string::npos);
    expect_undisturbed();
  }
};

TEST_F(ProbeTest, counts_the_pages_that_are_written_and_leaves_nothing) {
  Jobs jobs(spool_);
  begin(jobs);
  const std::uint64_t before = written();
  const Event answer = jobs.ask(jobs.source, probe(900));
  const std::uint64_t wrote = written() - before;
  ASSERT_TRUE(answer.has_probed()) << answer.failure().message();
  ASSERT_EQ(answer.probed().points_size(), 3);
  std::uint64_t last_ns = 0, last_pages = 0;
  for (const DirtyPoint& point : answer.probed().points()) {
    EXPECT_GT(point.nanoseconds(), last_ns);
    EXPECT_GE(point.bytes() / page_size, last_pages);
    last_ns = point.nanoseconds();
    last_pages = point.bytes() / page_size;
  }
  EXPECT_GE(last_ns, 899'000'000u);
  EXPECT_LT(answer.probed().points(0).bytes(), answer.probed().points(2).bytes() / 2) << "it writes all the time";
  EXPECT_GE(last_pages, wrote / 2);
  EXPECT_LE(last_pages, wrote + others);
  expect_untracked();
  // And is moved by the same job all the same.
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  jobs.carry();
  EXPECT_THAT(jobs.ask(jobs.source, probe(1)).failure().message(), ::testing::HasSubstr("between a survey and the first round"));
  expect_arrival(jobs, jobs.ask(jobs.source, freeze(1, source_cgroup_)));
  expect_undisturbed();
}

// Where nothing is borrowed, or at a fault point where something is.
class ProbeDeath : public ProbeTest, public ::testing::WithParamInterface<const char*> {};

TEST_P(ProbeDeath, leaves_the_target_running_and_whole) {
  UniqueFd journal = make_journal();
  {
    const std::string point = GetParam();
    JobClient source(journal.get(), true, point == "counting" ? "" : point + "=kill");
    ASSERT_TRUE(survey(source).has_surveyed());
    Command c = probe(2000);
    c.set_id(1000);
    source.post(c);
    if (point == "counting") {
      ::usleep(300'000);
      source.kill();
    }
    EXPECT_THROW(source.await(1000, [] {}), Error);
    EXPECT_EQ(WTERMSIG(source.wait_end()), SIGKILL);
  }
  JobClient fresh(journal.get(), false);
  Command recover;
  recover.mutable_recover()->set_pid(pid_);
  recover.mutable_recover()->set_release(true);
  const Event done = fresh.ask(recover);
  EXPECT_TRUE(done.has_done()) << done.failure().message();
  expect_untracked();
}

INSTANTIATE_TEST_SUITE_P(AtEveryPoint, ProbeDeath,
                         ::testing::Values("engine.hold.stopped", "engine.inject.scratch", "counting"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '.' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace godwit::engine::test
