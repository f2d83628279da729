// A last difference that is larger than allowed: the task runs on, and what was found is owed, not forgotten.

#include "tests/engine/job_fixture.h"

#include "common/base/check.h"

#include <csignal>

#include <sys/mman.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

// Writes its number of writes so far into one page after the other, round and round, and says when a page has not
// what was last written to it.
class WriterTest : public JobTest {
 protected:
  static constexpr long pages = 256;

  void write_for_ever(int kind, int writes_at_once) {
    char* const at = static_cast<char*>(
        ::mmap(nullptr, pages * page_size, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    const auto word = [&](long page) -> long& { return *reinterpret_cast<long*>(at + page * long{page_size}); };
    for (long page = 0; page < pages; page++) word(page) = page;
    for (long n = pages;;) {
      for (int i = 0; i < writes_at_once; i++, n++) word(n % pages) = n;
      bool bad = false;
      for (long page = 0; page < pages; page++) bad |= word(page) != n - 1 - (n - 1 - page) % pages;
      char line[64];
      const int length = std::snprintf(line, sizeof line, "%ld%s\n", n, bad ? " bad page" : "");
      if (::write(1, line, static_cast<std::size_t>(length)) != length) ::_exit(1);
      ::usleep(2000);
    }
  }
  void be_target() override { write_for_ever(MAP_PRIVATE, 40); }

  Event freeze_with_at_most(Jobs& jobs, std::uint32_t number, std::uint64_t bytes) {
    Command c = freeze(number, source_cgroup_);
    c.mutable_freeze()->set_most_bytes(bytes);
    return jobs.ask(jobs.source, c);
  }
  void expect_over(const Event& answer, std::uint64_t bytes) {
    ASSERT_TRUE(answer.has_frozen()) << answer.failure().message();
    EXPECT_GT(answer.frozen().over_bytes(), bytes);
    EXPECT_GT(answer.frozen().stopped_ns(), 0u);
    EXPECT_FALSE(answer.frozen().has_round());
    EXPECT_FALSE(source_cgroup_.frozen());
    expect_undisturbed();
  }
};

TEST_F(WriterTest, a_difference_that_is_too_large_is_owed_while_it_runs_on) {
  Jobs jobs(spool_);
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  for (std::uint32_t n = 1; n < 6; n += 2) {
    expect_over(freeze_with_at_most(jobs, n, page_size), page_size);
    ASSERT_TRUE(jobs.ask(jobs.source, round(n + 1)).has_round_done());
  }
  expect_over(freeze_with_at_most(jobs, 7, page_size), page_size);
  expect_over(freeze_with_at_most(jobs, 8, page_size), page_size);
  expect_arrival(jobs, freeze_with_at_most(jobs, 9, 0));  // straight away, with all that is owed
  expect_undisturbed();
}

TEST_F(WriterTest, a_difference_that_is_small_enough_is_sent) {
  Jobs jobs(spool_);
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  expect_over(freeze_with_at_most(jobs, 1, page_size), page_size);
  const Event frozen = freeze_with_at_most(jobs, 2, 4 * pages * page_size);
  EXPECT_EQ(frozen.frozen().over_bytes(), 0u);
  EXPECT_GT(frozen.frozen().round().pages(), 0u);
  expect_arrival(jobs, frozen);
  expect_undisturbed();
}

TEST_F(WriterTest, the_first_round_may_be_too_large_as_well) {
  Jobs jobs(spool_);
  begin(jobs);
  expect_over(freeze_with_at_most(jobs, 0, pages * page_size), pages * page_size);
  ASSERT_TRUE(jobs.ask(jobs.source, round(1)).has_round_done());
  const Event second = jobs.ask(jobs.source, round(2));
  EXPECT_LT(second.round_done().pages(), static_cast<std::uint64_t>(2 * pages)) << "tracking has not begun";
  expect_arrival(jobs, freeze_with_at_most(jobs, 3, 0));
  expect_undisturbed();
}

TEST_F(WriterTest, a_limit_on_its_cpu_time_is_lifted_before_the_stop) {
  const std::string file = dir_.path("cpu.max");
  Jobs jobs(spool_);
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  for (std::uint32_t n = 1; n < 3; n++) {
    write_file(file, "20000 100000", 0644);
    Command limited;
    limited.mutable_limited()->set_file(file);
    limited.mutable_limited()->set_lifted("max");
    jobs.source.post(limited);
    ASSERT_TRUE(jobs.ask(jobs.source, round(10 + n)).has_round_done());
    EXPECT_EQ(contents(file), "20000 100000");
    if (n == 1) expect_over(freeze_with_at_most(jobs, 20, page_size), page_size);
    if (n == 2) expect_arrival(jobs, freeze_with_at_most(jobs, 21, 0));
    EXPECT_TRUE(contents(file).starts_with("max")) << contents(file);
  }
  expect_undisturbed();
}

TEST_F(WriterTest, a_limit_on_its_cpu_time_is_lifted_when_the_agent_has_gone) {
  const std::string file = dir_.path("cpu.max");
  write_file(file, "20000 100000", 0644);
  {
    Jobs jobs(spool_);
    begin(jobs);
    Command limited;
    limited.mutable_limited()->set_file(file);
    limited.mutable_limited()->set_lifted("max");
    jobs.source.post(limited);
    ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  }
  EXPECT_TRUE(contents(file).starts_with("max")) << contents(file);
  expect_undisturbed();
}

volatile std::sig_atomic_t told_to_clear = 0;

// Has a large buffer that says something, until it is told to give it back: from then on it must be zeros.
class ClearingTest : public WriterTest {
 protected:
  static constexpr std::size_t buffer_size = 64u << 20;

  void be_target() override {
    char* const at = static_cast<char*>(
        ::mmap(nullptr, buffer_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
    const auto word = [&](std::size_t offset) -> long& { return *reinterpret_cast<long*>(at + offset); };
    for (std::size_t i = 0; i < buffer_size; i += page_size) word(i) = 1;
    std::signal(SIGUSR1, [](int) { told_to_clear = 1; });
    for (bool cleared = false;;) {
      if (told_to_clear && !cleared) cleared = ::madvise(at, buffer_size, MADV_DONTNEED) == 0;
      bool bad = false;
      for (std::size_t i = 0; i < buffer_size; i += page_size) bad |= word(i) != (cleared ? 0 : 1);
      const std::string line = std::string(cleared ? "cleared" : "full") + (bad ? " bad page\n" : "\n");
      if (::write(1, line.data(), line.size()) != static_cast<ssize_t>(line.size())) ::_exit(1);
      ::usleep(2000);
    }
  }
};

// Of a first difference that was too large much has been sent, and is forgotten at the source: what was there then and
// is nothing now is not sent again.
TEST_F(ClearingTest, what_was_sent_of_a_first_round_that_was_too_large_is_forgotten_at_both_ends) {
  Jobs jobs(spool_);
  begin(jobs);
  expect_over(freeze_with_at_most(jobs, 0, buffer_size / 4 * 3), buffer_size / 4 * 3);
  ::kill(pid_, SIGUSR1);
  EXPECT_TRUE(wait_for([&] { return contents(dir_.path("out")).find("cleared") != std::string::npos; }));
  expect_arrival(jobs, freeze_with_at_most(jobs, 1, 0));
  expect_undisturbed();
}

class SharedWriterTest : public WriterTest {
  void be_target() override { write_for_ever(MAP_SHARED, pages); }
};

TEST_F(SharedWriterTest, shared_memory_counts_as_well) {
  constexpr std::uint64_t most = 64 * page_size;  // what the program writes elsewhere is far less
  Jobs jobs(spool_);
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  // It may not have had the time to write between the last catching up and the stop.
  std::uint32_t n = 1;
  for (unsigned over = 0; over < 2; n++) {
    ASSERT_LT(n, 50u);
    const Event answer = freeze_with_at_most(jobs, n, most);
    ASSERT_TRUE(answer.has_frozen()) << answer.failure().message();
    if (answer.frozen().over_bytes() > 0) {
      expect_over(answer, most);
      over++;
      continue;
    }
    Command thaw;
    thaw.mutable_thaw();
    ASSERT_TRUE(jobs.ask(jobs.source, thaw).has_done());
    expect_undisturbed();
  }
  expect_arrival(jobs, freeze_with_at_most(jobs, n, 0));
  expect_undisturbed();
}

}  // namespace
}  // namespace godwit::engine::test
