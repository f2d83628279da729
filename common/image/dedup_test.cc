#include "common/image/dedup.h"

#include "common/base/units.h"
#include "common/image/image_set.h"
#include "common/image/inventory.pb.h"
#include "common/image/page_reader.h"
#include "common/image/test_dir.h"

#include <gtest/gtest.h>

#include <sys/stat.h>

namespace godwit::image {
namespace {

constexpr std::uint64_t pid = 7;

InventoryEntry inventory(const std::string& own = {}, const std::string& parent = {}) {
  InventoryEntry entry;
  entry.set_img_version(image_version);
  if (!own.empty()) entry.set_generation(own);
  if (!parent.empty()) entry.set_parent_generation(parent);
  return entry;
}

// A set whose PRESENT pages are all filled with one letter.
void write_set(int dir, const std::vector<PageRun>& runs, char letter, const std::string& parent = {},
               const InventoryEntry& said = inventory()) {
  PagemapWriter writer(1);
  std::string pages;
  for (const PageRun& run : runs) {
    writer.add(run);
    if (run.is(PageFlag::present)) pages.append(run.pages * page_size, letter);
  }
  ImageSet set;
  set.put_file(file_name(Kind::pagemap, pid), writer.finish());
  set.put(Kind::inventory, 0, said);
  set.save(dir);
  UniqueFd fd = open_at(dir, "pages-1.img", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  write_all(fd.get(), std::string_view(pages));
  if (!parent.empty()) set_parent(dir, parent);
}

std::uint64_t blocks(int dir) {
  struct stat st{};
  check(::fstatat(dir, "pages-1.img", &st, 0), "stat");
  return static_cast<std::uint64_t>(st.st_blocks) * 512;
}

std::string letters(int dir) {
  std::string text;
  PageReader reader(dir, Kind::pagemap, pid);
  while (const auto source = reader.next())
    for (std::uint64_t i = 0; i < source->pages; i++) {
      std::byte first{};
      pread_exact(source->fd, std::span(&first, 1), source->offset + static_cast<off_t>(i * page_size));
      text += static_cast<char>(first);
    }
  return text;
}

constexpr std::uint32_t present = static_cast<std::uint32_t>(PageFlag::present);
constexpr std::uint32_t inherited = static_cast<std::uint32_t>(PageFlag::parent);

TEST(Dedup, frees_in_every_parent_what_the_top_has_and_the_top_still_reads_whole) {
  TestDir one, two, three;
  write_set(one.fd(), {{0x10000, 8, present}}, '1');
  write_set(two.fd(), {{0x10000, 2, present}, {0x12000, 6, inherited}}, '2', one.path());
  write_set(three.fd(),
            {{0x10000, 1, present}, {0x11000, 2, inherited}, {0x13000, 1, present}, {0x14000, 4, inherited}}, '3',
            two.path());
  ASSERT_EQ(letters(three.fd()), "32131111");
  // For 3: two pages of 1 and one of 2; for 2: two of 1, one of which is free already.
  EXPECT_EQ(dedup(three.fd()), (3 + 2) * page_size);
  EXPECT_EQ(letters(three.fd()), "32131111");
  EXPECT_EQ(blocks(one.fd()), 5 * page_size);
  EXPECT_EQ(blocks(two.fd()), 1 * page_size);
  EXPECT_EQ(blocks(three.fd()), 2 * page_size);
}

TEST(Dedup, leaves_alone_a_set_without_parent) {
  TestDir one;
  write_set(one.fd(), {{0x10000, 8, present}}, '1');
  EXPECT_EQ(dedup(one.fd()), 0u);
  EXPECT_EQ(blocks(one.fd()), 8 * page_size);
}

// What is freed in a good parent is lost when the set is none.
TEST(Dedup, frees_nothing_for_a_set_that_was_not_finished) {
  TestDir one, two;
  write_set(one.fd(), {{0x10000, 8, present}}, '1');
  write_set(two.fd(), {{0x10000, 8, present}}, '2', one.path());
  std::filesystem::remove(two.path() + "/inventory.img");
  try {
    dedup(two.fd());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::image_corrupt);
    EXPECT_NE(e.message().find(two.path()), std::string::npos) << e.message();
  }
  EXPECT_EQ(blocks(one.fd()), 8 * page_size);
}

// In the parent.
template <class Damage>
void expect_nothing_freed(Damage damage, const std::string& named) {
  TestDir one, two;
  write_set(one.fd(), {{0x10000, 8, present}}, '1');
  write_set(two.fd(), {{0x10000, 4, present}, {0x14000, 4, inherited}}, '2', one.path());
  damage(two);
  try {
    dedup(two.fd());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::image_corrupt) << e.message();
    EXPECT_NE(e.message().find(named), std::string::npos) << e.message();
  }
  EXPECT_EQ(blocks(one.fd()), 8 * page_size);
}

TEST(Dedup, frees_nothing_for_pages_that_are_not_all_there) {
  expect_nothing_freed([](TestDir& set) { std::filesystem::resize_file(set.path() + "/pages-1.img", 3 * page_size); },
                       "pages-1.img at offset 12288");
}

// As a copy by some tools leaves them, or an earlier dedup of a set that rests on this one.
TEST(Dedup, frees_nothing_for_pages_with_a_hole) {
  expect_nothing_freed(
      [](TestDir& set) {
        const UniqueFd pages = open_at(set.fd(), "pages-1.img", O_WRONLY);
        check(::fallocate(pages.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page_size, page_size), "punch");
      },
      "pages-1.img at offset 4096");
}

TEST(Dedup, frees_nothing_when_a_later_object_is_damaged) {
  expect_nothing_freed(
      [](TestDir& set) {
        UniqueFd pagemap = open_at(set.fd(), file_name(Kind::pagemap, pid + 1), O_WRONLY | O_CREAT, 0600);
        write_all(pagemap.get(), std::string_view("no pagemap"));
      },
      file_name(Kind::pagemap, pid + 1));
}

TEST(Dedup, frees_nothing_in_a_parent_that_is_another_dump_by_now) {
  TestDir one, two, three;
  write_set(one.fd(), {{0x10000, 8, present}}, '1', {}, inventory("x"));
  write_set(two.fd(), {{0x10000, 8, present}}, '2', one.path(), inventory("b", "a"));
  write_set(three.fd(), {{0x10000, 8, present}}, '3', two.path(), inventory("c", "b"));
  try {
    dedup(three.fd());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::refused);
    EXPECT_NE(e.message().find(one.path()), std::string::npos) << e.message();
    EXPECT_NE(e.message().find(two.path()), std::string::npos) << e.message();
  }
  EXPECT_EQ(blocks(one.fd()) + blocks(two.fd()), 16 * page_size);
}

TEST(Dedup, names_a_parent_that_leads_in_a_circle) {
  TestDir one, two;
  write_set(one.fd(), {{0x10000, 1, present}}, '1', two.path());
  write_set(two.fd(), {{0x10000, 1, present}}, '2', one.path());
  try {
    dedup(two.fd());
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::image_corrupt);
    EXPECT_NE(e.message().find("parent/parent/"), std::string::npos) << e.message();
  }
}

}  // namespace
}  // namespace godwit::image
