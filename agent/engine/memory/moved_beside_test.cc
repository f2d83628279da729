// What mremap does to a tracker.
#include "agent/engine/memory/test_userfaultfd.h"
#include "agent/engine/memory/tracker.h"
#include "common/base/fd.h"
#include "common/proc/reader.h"

#include <gtest/gtest.h>

#include <cstring>
#include <optional>

#include <sys/mman.h>

namespace godwit::engine {
namespace {

// A page that is moved to the end of a tracked mapping becomes one with it, and the tracker goes from both, but not its
// marks.
class MovedBeside : public testing::Test {
 protected:
  void SetUp() override {
    const auto map = [](char* at, std::size_t count, int protection, int how) {
      return static_cast<char*>(::mmap(at, count * page_size, protection, MAP_PRIVATE | MAP_ANONYMOUS | how, -1, 0));
    };
    base_ = map(nullptr, room, PROT_NONE, 0);
    ::munmap(base_, room * page_size);
    kept_ = map(base_ + 8 * page_size, pages, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE);
    moved_ = map(base_ + 32 * page_size, 1, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE);
    ASSERT_TRUE(kept_ != MAP_FAILED && moved_ != MAP_FAILED);
    std::memset(kept_, 1, pages * page_size);
    track();
    scan();
    ASSERT_EQ(scan().size(), 0u);
    char* const beside = kept_ + pages * page_size;
    ASSERT_EQ(::mremap(moved_, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED, beside), beside);
    kept_[0] = 2;
  }
  void TearDown() override { ::munmap(kept_, (pages + 1) * page_size); }

  // Two trackers of one mapping are refused: the one before goes first.
  void track() {
    tracker_.reset();
    UniqueFd userfaultfd(open_userfaultfd());
    ASSERT_TRUE(userfaultfd);
    tracker_.emplace(::getpid(), std::move(userfaultfd));
  }
  PageSet scan() {
    std::vector<proc::Vma> maps = proc::Reader(::getpid()).maps();
    const auto from = reinterpret_cast<std::uint64_t>(base_), to = from + room * page_size;
    std::erase_if(maps, [&](const proc::Vma& vma) { return vma.start < from || vma.end > to; });
    NotedChanges noted;
    tracker_->scan(maps, noted, {}, false);
    return noted.added();
  }
  void expect_writes_to_be_seen() {
    scan();
    kept_[0] = kept_[page_size] = 3;
    const PageSet written = scan();
    const auto at = reinterpret_cast<std::uint64_t>(kept_);
    EXPECT_TRUE(written.intersects(at, at + page_size));
    EXPECT_TRUE(written.intersects(at + page_size, at + 2 * page_size));
  }

  std::optional<Tracker> tracker_;

 private:
  static constexpr std::size_t pages = 4, room = 64;
  char *base_ = nullptr, *kept_ = nullptr, *moved_ = nullptr;
};

TEST_F(MovedBeside, is_seen_by_the_tracker_that_it_lost) { expect_writes_to_be_seen(); }

TEST_F(MovedBeside, is_seen_by_a_tracker_that_starts_over) {
  tracker_->forget();
  expect_writes_to_be_seen();
}

TEST_F(MovedBeside, is_seen_by_another_tracker) {
  track();
  expect_writes_to_be_seen();
}

}  // namespace
}  // namespace godwit::engine
