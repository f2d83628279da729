// Of a tree of forks the source keeps in common what its processes have in common: reading a page is no reason for the
// kernel to give each its own.

#include "tests/engine/job_fixture.h"

#include "common/base/units.h"
#include "common/proc/reader.h"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace godwit::engine::test {
namespace {

constexpr std::size_t size = 64u << 20, step = 64 * page_size;  // of what each writes anew
constexpr std::size_t children = 4;
constexpr long most_kib = size / 1024 / 8;  // that a dump may add

class ForkedTree : public JobTest {
  void be_target() override {
    auto* const memory =
        static_cast<char*>(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (std::size_t at = 0; at < size; at += sizeof at) std::memcpy(memory + at, &at, sizeof at);
    for (std::size_t n = 0; n < children; n++) {
      if (::fork() != 0) continue;
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (std::size_t at = n * page_size; at < size; at += step) memory[at]++;
      for (;;) ::pause();
    }
    count();
  }

 protected:
  void SetUp() override {
    JobTest::SetUp();
    ASSERT_TRUE(wait_for([&] { return proc::Reader(pid_).children().size() == children; }));
    long last = -1;  // until none writes any more
    ASSERT_TRUE(wait_for([&] { return std::exchange(last, private_kib()) == last; }));
    before_ = last;
  }

  void expect_the_same(const char* when) const {
    const long now = private_kib();
    EXPECT_LE(now, before_ + most_kib) << "of their own the processes have " << before_ << " KiB before, and " << now
                                       << " " << when;
  }

 private:
  // What the processes of the tree have each for itself.
  long private_kib() const {
    long sum = 0;
    std::vector<pid_t> tree = proc::Reader(pid_).children();
    tree.push_back(pid_);
    for (const pid_t pid : tree) {
      const std::string text = contents(fmt::format("/proc/{}/smaps_rollup", pid));
      for (const std::string_view name : {"\nPrivate_Clean:", "\nPrivate_Dirty:"})
        if (const std::size_t at = text.find(name); at != std::string::npos)
          sum += std::atol(text.c_str() + at + name.size());
    }
    return sum;
  }

  long before_ = 0;
};

TEST_F(ForkedTree, has_its_pages_in_common_after_each_round_of_a_migration) {
  Jobs jobs(spool_);
  begin(jobs);
  for (std::uint32_t number = 0; number < 2; number++) {
    ASSERT_TRUE(jobs.ask(jobs.source, round(number)).has_round_done());
    expect_the_same("after a round");
  }
  const Event frozen = jobs.ask(jobs.source, freeze(2, source_cgroup_));
  ASSERT_TRUE(frozen.has_frozen()) << frozen.failure().message();
  expect_the_same("in the freeze");
  Command thaw;
  thaw.mutable_thaw();
  EXPECT_TRUE(jobs.source.ask(thaw).has_done());
  expect_undisturbed();
}

TEST_F(ForkedTree, has_its_pages_in_common_after_a_dump) {
  for (const char* how : {"pre-dump", "dump"}) {
    std::vector<std::string> words{how, "-t", std::to_string(pid_), "-D", dir_.path(how)};
    if (how == std::string("dump")) words.insert(words.end(), {"--leave-running", "--prev-images-dir", "../pre-dump"});
    const Ran ran = run_engine(words, {}, pid_);
    ASSERT_TRUE(ran.ok()) << ran.output;
    expect_the_same(how);
  }
  expect_undisturbed();
}

}  // namespace
}  // namespace godwit::engine::test
