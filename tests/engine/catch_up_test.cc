// What a process writes between the last round and the stop goes ahead of the stop.

#include "tests/engine/job_fixture.h"

#include "common/base/check.h"

#include <cstring>
#include <thread>

#include <sys/mman.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

using namespace std::chrono_literals;

// Writes into one page after another, 4 in a millisecond, and says so when one is not as it left it.
class WriterTest : public JobTest {
 protected:
  static constexpr long pages = 16384, per_turn = 4;

  void be_target() override {
    void* const at = ::mmap(nullptr, pages * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) ::_exit(1);
    for (long n = 0;; n++) {
      bool bad = false;
      for (long k = n * per_turn; k < (n + 1) * per_turn; k++) {
        long* const counter = reinterpret_cast<long*>(static_cast<char*>(at) + k % pages * page_size);
        bad |= *counter != k / pages;
        ++*counter;
      }
      char line[64];
      const int length = std::snprintf(line, sizeof line, "%ld%s\n", n, bad ? " bad page" : "");
      if (n % 16 == 0 || bad)
        if (::write(1, line, static_cast<std::size_t>(length)) != length) ::_exit(1);
      ::usleep(1000);
    }
  }

  // How far it has come, in pages.
  long written() {
    const std::string out = contents(dir_.path("out"));
    const std::size_t end = out.find_last_of('\n');
    if (end == std::string::npos || end == 0) return 0;
    return std::stol(out.substr(out.find_last_of('\n', end - 1) + 1)) * per_turn;
  }
};

TEST_F(WriterTest, what_was_written_since_the_last_round_is_not_left_for_the_pause) {
  Jobs jobs(spool_);
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  ASSERT_TRUE(jobs.ask(jobs.source, round(1)).has_round_done());
  const long before = written();
  ASSERT_TRUE(wait_for([&] { return written() > before + 2000; }));
  const Event frozen = jobs.ask(jobs.source, freeze(2, source_cgroup_));
  ASSERT_TRUE(frozen.has_frozen());
  ASSERT_TRUE(frozen.frozen().has_caught_up());
  const RoundDone& ahead = frozen.frozen().caught_up();
  EXPECT_GT(ahead.pages(), 2000u);
  EXPECT_LT(frozen.frozen().round().pages(), ahead.pages() / 2);
  EXPECT_EQ(ahead.dirty_bytes_after(), frozen.frozen().round().bytes());
  expect_arrival(jobs, frozen);
  expect_undisturbed();
}

TEST_F(WriterTest, what_is_let_go_and_frozen_again_catches_up_again) {
  Jobs jobs(spool_);
  begin(jobs);
  ASSERT_TRUE(jobs.ask(jobs.source, round(0)).has_round_done());
  ASSERT_TRUE(jobs.ask(jobs.source, freeze(1, source_cgroup_)).has_frozen());
  Command thaw;
  thaw.mutable_thaw();
  ASSERT_TRUE(jobs.source.ask(thaw).has_done());
  const long before = written();
  ASSERT_TRUE(wait_for([&] { return written() > before + 2000; }));
  const Event frozen = jobs.ask(jobs.source, freeze(2, source_cgroup_));
  ASSERT_TRUE(frozen.has_frozen());
  EXPECT_GT(frozen.frozen().caught_up().pages(), 2000u);
  EXPECT_LT(frozen.frozen().round().pages(), frozen.frozen().caught_up().pages() / 2);
  expect_arrival(jobs, frozen);
  expect_undisturbed();
}

}  // namespace
}  // namespace godwit::engine::test
