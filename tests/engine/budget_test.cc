// A last difference that is larger than allowed: the task runs on, and what was found is owed, not forgotten.

#include "tests/engine/job_fixture.h"

#include "common/base/check.h"

#include <csignal>
#include <thread>

#include <sys/mman.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

using namespace std::chrono_literals;

// Writes its number of writes so far into one page after the other, round and round, and says when a page has not
// what was last written to it.
class WriterTest : public JobTest {
 protected:
  static constexpr long pages = 256;

  void write_for_ever(int kind, int writes_at_once, const long pages = WriterTest::pages) {
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

// Of it something could be built that is of before the task ran on.
TEST_F(WriterTest, nothing_is_sent_but_pages_before_the_difference_is_known_to_be_small_enough) {
  Jobs jobs(spool_);
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  const Event over = freeze_with_at_most(jobs, 1, page_size);
  expect_over(over, page_size);
  EXPECT_TRUE(finish(jobs, over).has_failure());
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

TEST_F(SharedWriterTest, what_has_run_on_may_take_its_time_again) {
  constexpr std::uint64_t most = 64 * page_size;
  Jobs jobs(spool_);
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  std::uint64_t over_bytes = 0;
  for (std::uint32_t n = 1; over_bytes <= most; n++) {
    ASSERT_LT(n, 50u);
    Command c = freeze(n, source_cgroup_);
    c.mutable_freeze()->set_most_bytes(most);
    c.mutable_freeze()->set_longest_stop_ns(300'000'000);
    const Event answer = jobs.ask(jobs.source, c);
    ASSERT_TRUE(answer.has_frozen()) << answer.failure().message();
    over_bytes = answer.frozen().over_bytes();
    if (over_bytes > 0) continue;
    Command thaw;
    thaw.mutable_thaw();
    ASSERT_TRUE(jobs.ask(jobs.source, thaw).has_done());
  }
  std::this_thread::sleep_for(400ms);
  const Event later = jobs.ask(jobs.source, round(50));
  EXPECT_TRUE(later.has_round_done()) << later.failure().message();
  expect_arrival(jobs, freeze_with_at_most(jobs, 51, 0));
  expect_undisturbed();
}

// Writes more between two looks than the ring takes.
class WideWriterTest : public WriterTest {
 protected:
  static constexpr long many = 4096;

  void be_target() override { write_for_ever(MAP_PRIVATE, many, many); }

  Command freeze_for_at_most(std::uint32_t number, std::chrono::milliseconds longest) {
    Command c = freeze(number, source_cgroup_);
    c.mutable_freeze()->set_most_bytes(1u << 30);
    c.mutable_freeze()->set_longest_stop_ns(static_cast<std::uint64_t>(std::chrono::nanoseconds(longest).count()));
    return c;
  }
  // The destination takes nothing from the moment of the stop on until the source runs on.
  Event freeze_with_a_stuck_destination(Jobs& jobs, std::uint32_t number) {
    Command c = freeze_for_at_most(number, 300ms);
    c.set_id(1'000'000 + number);
    jobs.source.post(c);
    return jobs.source.await(c.id(), [&] {
      if (state_of(pid_) != 't') jobs.carry();
    });
  }
  void runs_on_and_arrives() {
    Jobs jobs(spool_);
    begin(jobs);
    ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
    for (std::uint32_t n = 1; n < 5; n += 2) {
      const Event over = freeze_with_a_stuck_destination(jobs, n);
      expect_over(over, 0);
      EXPECT_GE(over.frozen().stopped_ns(), 300'000'000u);
      EXPECT_LT(over.frozen().stopped_ns(), 3'000'000'000u);
      ASSERT_TRUE(jobs.ask(jobs.source, round(n + 1)).has_round_done());
    }
    expect_over(freeze_with_a_stuck_destination(jobs, 5), 0);
    expect_arrival(jobs, jobs.ask(jobs.source, freeze_for_at_most(6, 60s)));
    expect_undisturbed();
  }
};

TEST_F(WideWriterTest, a_difference_that_is_taken_too_slowly_is_owed_while_it_runs_on) { runs_on_and_arrives(); }

class WideSharedWriterTest : public WideWriterTest {
  void be_target() override { write_for_ever(MAP_SHARED, many, many); }
};

TEST_F(WideSharedWriterTest, shared_memory_that_is_taken_too_slowly_is_compared_anew) { runs_on_and_arrives(); }

}  // namespace
}  // namespace godwit::engine::test
