#include "common/base/page_file.h"

#include "common/base/units.h"
#include "common/base/worker.h"
#include "tests/support/forbid.h"

#include <cstring>
#include <vector>

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace godwit {
namespace {

UniqueFd temporary_file(const char* directory) { return open_file(directory, O_TMPFILE | O_RDWR, 0600); }

struct stat status_of(int fd) {
  struct stat s{};
  check(::fstat(fd, &s), "look at a file");
  return s;
}

std::vector<std::byte> pages_of(int value, std::size_t count) {
  return std::vector<std::byte>(count * page_size, static_cast<std::byte>(value));
}

void expect_pages(int fd, int value, std::size_t count, std::uint64_t offset) {
  std::vector<std::byte> read(count * page_size);
  pread_exact(fd, read, static_cast<off_t>(offset));
  EXPECT_EQ(read, pages_of(value, count)) << offset;
}

class PageFileIn : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(file_systems, PageFileIn, testing::Values("/dev/shm", "/tmp"),
                         [](const auto& info) { return info.param == std::string("/tmp") ? "disk" : "memory"; });

TEST_P(PageFileIn, has_what_two_threads_wrote) {
  constexpr std::size_t at_once = 8, count = 200;
  PageFile file(temporary_file(GetParam()));
  {
    Worker second;
    for (std::size_t i = 0; i < count; i += 2) {
      auto done =
          second.run([&, i] { file.write(pages_of(static_cast<int>(i % 251), at_once), i * at_once * page_size); });
      file.write(pages_of(static_cast<int>((i + 1) % 251), at_once), (i + 1) * at_once * page_size);
      done.get();
    }
  }
  file.finish(count * at_once * page_size);
  for (std::size_t i = 0; i < count; i++)
    expect_pages(file.fd(), static_cast<int>(i % 251), at_once, i * at_once * page_size);
  EXPECT_EQ(status_of(file.fd()).st_size, static_cast<off_t>(count * at_once * page_size));
}

constexpr std::uint64_t well_inside = 4u << 20;  // where a file is not small any more

// What is placed goes into a file that is longer for the time being.
bool places(const char* directory, std::uint64_t at = well_inside) {
  PageFile file(temporary_file(directory));
  file.write(pages_of(7, 3), at);
  const std::uint64_t length = at + 3 * page_size;
  const bool longer = status_of(file.fd()).st_size > static_cast<off_t>(length);
  file.finish(length);
  expect_pages(file.fd(), 7, 3, at);
  return longer;
}

TEST(PageFile, places_pages_in_memory_only_and_not_of_small_files) {
  EXPECT_TRUE(places("/dev/shm"));
  EXPECT_FALSE(places("/dev/shm", 0));
  if (!in_memory(open_file("/tmp", O_RDONLY).get())) EXPECT_FALSE(places("/tmp"));
}

TEST(PageFile, is_written_plainly_where_userfaultfd_is_forbidden) {
  const auto write_without = [] {
    test::forbid(SYS_userfaultfd);
    ::_exit(places("/dev/shm") ? 1 : testing::Test::HasFailure() ? 2 : 0);
  };
  EXPECT_EXIT(write_without(), testing::ExitedWithCode(0), "");
}

// Far more than is mapped at a time; a piece lies across the border of what is.
TEST_P(PageFileIn, is_as_long_as_it_gets) {
  PageFile file(temporary_file(GetParam()));
  constexpr std::uint64_t border = 64u << 20;
  for (std::uint64_t i = 1; i <= 5; i++) file.write(pages_of(static_cast<int>(i), 6), i * border - 3 * page_size);
  const std::uint64_t length = 5 * border + 3 * page_size;
  file.finish(length);
  for (std::uint64_t i = 1; i <= 5; i++) expect_pages(file.fd(), static_cast<int>(i), 6, i * border - 3 * page_size);
  EXPECT_EQ(status_of(file.fd()).st_size, static_cast<off_t>(length));
  EXPECT_EQ(status_of(file.fd()).st_blocks, 5 * 6 * 8);
}

TEST_P(PageFileIn, has_nothing_of_what_was_not_written) {
  PageFile file(temporary_file(GetParam()));
  file.finish(0);
  EXPECT_EQ(status_of(file.fd()).st_size, 0);
}

TEST(PageFile, takes_what_is_no_page) {
  PageFile file(temporary_file("/dev/shm"));
  const auto bytes = pages_of(7, 1);
  file.write(std::span(bytes).first(100), well_inside);
  file.write(std::span(bytes).first(100), well_inside + 100);
  file.finish(well_inside + 200);
  std::vector<std::byte> read(200);
  pread_exact(file.fd(), read, well_inside);
  EXPECT_EQ(read, std::vector(bytes.begin(), bytes.begin() + 200));
}

// A file system of one page, in a mount namespace of its own.
void fill_small_file_system() {
  ::unshare(CLONE_NEWNS);
  ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  if (::mount("none", "/mnt", "tmpfs", 0, "size=64k") != 0) ::_exit(1);
  PageFile file(open_file("/mnt/pages", O_RDWR | O_CREAT, 0600));
  try {
    file.write(pages_of(1, 32), well_inside);
  } catch (const Error& e) {
    ::_exit(e.errc() == Errc::no_space ? 7 : 2);
  }
  ::_exit(0);
}
TEST(PageFile, says_that_there_is_no_space) { EXPECT_EXIT(fill_small_file_system(), testing::ExitedWithCode(7), ""); }

// Where pages cannot be placed the file is lengthened for the first attempt only.
void write_to_ramfs() {
  ::unshare(CLONE_NEWNS);
  ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr);
  if (::mount("none", "/mnt", "ramfs", 0, nullptr) != 0) ::_exit(1);
  PageFile file(open_file("/mnt/pages", O_RDWR | O_CREAT, 0600));
  constexpr std::uint64_t border = 64u << 20;
  for (const std::uint64_t window : {0, 1, 2}) file.write(pages_of(4, 3), window * border);
  EXPECT_EQ(status_of(file.fd()).st_size, static_cast<off_t>(2 * border + 3 * page_size));
  for (const std::uint64_t window : {0, 1, 2}) expect_pages(file.fd(), 4, 3, window * border);
  ::_exit(testing::Test::HasFailure() ? 2 : 7);
}
TEST(PageFile, does_not_try_again_what_cannot_be_had) { EXPECT_EXIT(write_to_ramfs(), testing::ExitedWithCode(7), ""); }

void write_with_limit() {
  const rlimit limit{1 << 20, 1 << 20};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  PageFile file(temporary_file("/dev/shm"));
  file.write(pages_of(3, 64), 0);
  file.finish(64 * page_size);
  expect_pages(file.fd(), 3, 64, 0);
  ::_exit(testing::Test::HasFailure() ? 1 : 7);
}
TEST(PageFile, keeps_to_a_limit_of_file_sizes) { EXPECT_EXIT(write_with_limit(), testing::ExitedWithCode(7), ""); }

}  // namespace
}  // namespace godwit
