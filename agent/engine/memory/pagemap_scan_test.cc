#include "agent/engine/memory/pagemap_scan.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/units.h"

#include <gtest/gtest.h>

#include <random>

#include <fcntl.h>
#include <sys/mman.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t size = 512u << 20;

struct Mapping {
  Mapping()
      : bytes(static_cast<char*>(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    ::madvise(bytes, size, MADV_NOHUGEPAGE);
  }
  ~Mapping() { ::munmap(bytes, size); }
  char* bytes;
};

std::vector<PageRegion> joined(const std::vector<PageRegion>& regions) {
  std::vector<PageRegion> all;
  for (const PageRegion& r : regions)
    if (!all.empty() && all.back().end == r.start && all.back().categories == r.categories)
      all.back().end = r.end;
    else
      all.push_back(r);
  return all;
}

std::vector<PageRegion> present(const Mapping& mapping, Worker* second) {
  const UniqueFd pagemap = open_file("/proc/self/pagemap", O_RDONLY);
  PagemapScanner scanner(pagemap.get(), second);
  std::vector<PageRegion> found;
  const auto start = reinterpret_cast<std::uint64_t>(mapping.bytes);
  EXPECT_TRUE(
      scanner.scan({.start = start, .end = start + size, .any_of = page_present, .report = page_present}, found));
  return joined(found);
}

TEST(PagemapScanner, finds_with_two_threads_what_it_finds_with_one) {
  Mapping mapping;
  std::mt19937 random(1);
  for (int i = 0; i < 20'000; i++) mapping.bytes[random() % size] = 1;
  for (std::uint64_t at = size / 2 - (4u << 20); at < size / 2 + (4u << 20); at += page_size) mapping.bytes[at] = 1;
  Worker second;
  const auto one = present(mapping, nullptr), two = present(mapping, &second);
  ASSERT_EQ(one.size(), two.size());
  ASSERT_GT(one.size(), 10'000u);
  for (std::size_t i = 0; i < one.size(); i++) {
    ASSERT_EQ(one[i].start, two[i].start);
    ASSERT_EQ(one[i].end, two[i].end);
  }
}

// More regions than the kernel's own buffer holds, and more than one call reports.
TEST(PagemapScanner, reports_nothing_twice_and_leaves_nothing_out) {
  for (const std::uint64_t pages : {600u, 16'384u, 40'000u}) {
    Mapping mapping;
    for (std::uint64_t i = 0; i < pages; i++) mapping.bytes[2 * i * page_size] = 1;
    const auto found = present(mapping, nullptr);
    ASSERT_EQ(found.size(), pages);
    for (std::uint64_t i = 0; i < pages; i++)
      ASSERT_EQ(found[i].start, reinterpret_cast<std::uint64_t>(mapping.bytes) + 2 * i * page_size);
  }
}

TEST(PagemapScanner, finds_what_lacks_a_category) {
  Mapping mapping;
  for (std::uint64_t i = 0; i < 3; i++) mapping.bytes[i * page_size] = 1;
  const UniqueFd pagemap = open_file("/proc/self/pagemap", O_RDONLY);
  PagemapScanner scanner(pagemap.get());
  const auto start = reinterpret_cast<std::uint64_t>(mapping.bytes);
  std::vector<PageRegion> found;
  EXPECT_TRUE(scanner.scan(
      {.start = start, .end = start + 8 * page_size, .none_of = page_present, .report = page_present}, found));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].start, start + 3 * page_size);
  EXPECT_EQ(found[0].end, start + 8 * page_size);
}

TEST(PagemapScanner, says_when_either_half_is_not_tracked) {
  Mapping mapping;
  const UniqueFd pagemap = open_file("/proc/self/pagemap", O_RDONLY);
  Worker second;
  PagemapScanner scanner(pagemap.get(), &second);
  const auto start = reinterpret_cast<std::uint64_t>(mapping.bytes);
  std::vector<PageRegion> found;
  EXPECT_FALSE(scanner.scan({.start = start, .end = start + size, .protect = true, .all_of = page_written}, found));
}

}  // namespace
}  // namespace godwit::engine
