#include "common/image/parent_pages.h"

#include "common/base/units.h"
#include "common/image/page_reader.h"
#include "common/image/test_dir.h"

#include <gtest/gtest.h>

#include <sys/stat.h>

namespace godwit::image {
namespace {

constexpr std::uint64_t id = 12;

// a <- b <- c, each a directory below one.
class ParentPagesTest : public ::testing::Test {
 protected:
  UniqueFd make(const std::string& name, const std::string& parent, const std::vector<PageRun>& runs) {
    std::filesystem::create_directory(top_.path() + "/" + name);
    UniqueFd dir = open_at(top_.fd(), name, O_RDONLY | O_DIRECTORY);
    if (!parent.empty()) set_parent(dir.get(), "../" + parent);
    PagemapWriter writer(1);
    std::uint64_t bytes = 0;
    for (const PageRun& run : runs) {
      writer.add(run);
      if (run.is(PageFlag::present)) bytes += run.pages * page_size;
    }
    write_file(top_.path() + "/" + name + "/" + file_name(Kind::pagemap, id), writer.finish());
    write_file(top_.path() + "/" + name + "/" + file_name(Kind::pages, 1), std::string(bytes, 'x'));
    return dir;
  }
  std::uint64_t blocks(const std::string& name) {
    struct stat st{};
    check(::stat((top_.path() + "/" + name + "/" + file_name(Kind::pages, 1)).c_str(), &st), "stat");
    return static_cast<std::uint64_t>(st.st_blocks) * 512;
  }
  std::optional<ParentPages> parent_of(const UniqueFd& dir) {
    return ParentPages::of(dir.get(), Kind::pagemap, id, PagesAccess::punch);
  }

  TestDir top_;
};

constexpr auto present = static_cast<std::uint32_t>(PageFlag::present);
constexpr auto parent = static_cast<std::uint32_t>(PageFlag::parent);
constexpr auto lazy = static_cast<std::uint32_t>(PageFlag::lazy);

TEST_F(ParentPagesTest, says_what_is_there_at_any_level) {
  make("a", "", {{0x10000, 16, present}});
  make("b", "a", {{0x10000, 4, parent}, {0x14000, 2, present}, {0x16000, 2, lazy}, {0x18000, 20, parent}});
  const UniqueFd c = make("c", "b", {});
  auto pages = parent_of(c);
  ASSERT_TRUE(pages);
  EXPECT_EQ(pages->first_missing(0x10000, 6), std::nullopt) << "from two levels";
  EXPECT_EQ(pages->first_missing(0x10000, 7), 0x16000) << "left to be fetched later";
  EXPECT_EQ(pages->first_missing(0x18000, 20), 0x20000) << "behind the end of what the first has";
  EXPECT_EQ(pages->first_missing(0xf000, 2), 0xf000);
}

TEST_F(ParentPagesTest, what_has_been_freed_is_not_there) {
  make("a", "", {{0x10000, 16, present}});
  make("b", "a", {{0x10000, 8, parent}, {0x18000, 8, present}});
  const UniqueFd c = make("c", "b", {});
  EXPECT_EQ(parent_of(c)->first_missing(0x10000, 16), std::nullopt);
  parent_of(c)->punch(0x14000, 2);
  parent_of(c)->punch(0x1a000, 1);
  auto pages = parent_of(c);
  EXPECT_EQ(pages->first_missing(0x10000, 16), 0x14000);
  EXPECT_EQ(pages->first_missing(0x15000, 1), 0x15000);
  EXPECT_EQ(pages->first_missing(0x16000, 4), std::nullopt);
  EXPECT_EQ(pages->first_missing(0x16000, 16), 0x1a000);
  EXPECT_EQ(pages->first_missing(0x10000, 4), std::nullopt) << "asked again";
}

TEST_F(ParentPagesTest, is_nothing_without_a_parent_or_the_object) {
  const UniqueFd a = make("a", "", {{0x10000, 1, present}});
  EXPECT_FALSE(parent_of(a));
  const UniqueFd b = make("b", "a", {});
  EXPECT_FALSE(ParentPages::of(b.get(), Kind::pagemap, 13, PagesAccess::read));
  EXPECT_FALSE(ParentPages::of(b.get(), Kind::pagemap_shmem, id, PagesAccess::read));
}

TEST_F(ParentPagesTest, frees_what_is_superseded_and_nothing_else) {
  make("a", "", {{0x10000, 16, present}});
  make("b", "a", {{0x10000, 8, parent}, {0x18000, 8, present}});
  const UniqueFd c = make("c", "b", {});
  auto pages = parent_of(c);
  EXPECT_EQ(pages->punch(0x17000, 2), 3 * page_size) << "0x18000 is in both";
  EXPECT_EQ(pages->freed_in(), (std::set{top_.path() + "/a", top_.path() + "/b"}));
  EXPECT_EQ(blocks("a"), 14 * page_size);
  EXPECT_EQ(blocks("b"), 7 * page_size);
  EXPECT_EQ(pages->punch(0x40000, 100), 0u);
  pages->punch(0, 1000);
  EXPECT_EQ(blocks("a") + blocks("b"), 0u);
}

TEST_F(ParentPagesTest, knows_where_it_has_freed_something) {
  make("a", "", {{0x10000, 16, present}});
  make("b", "a", {{0x10000, 8, parent}, {0x18000, 8, present}});
  const UniqueFd c = make("c", "b", {});
  auto pages = parent_of(c);
  pages->punch(0x40000, 1);
  EXPECT_TRUE(pages->freed_in().empty());
  pages->punch(0x10000, 1);
  EXPECT_EQ(pages->freed_in(), std::set{top_.path() + "/a"});
}

TEST_F(ParentPagesTest, a_loop_of_parents_is_an_error) {
  const UniqueFd a = make("a", "b", {{0x10000, 1, parent}});
  make("b", "a", {{0x10000, 1, parent}});
  auto pages = parent_of(a);
  try {
    pages->first_missing(0x10000, 1);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::image_corrupt) << e.message();
  }
}

TEST_F(ParentPagesTest, a_child_stays_the_child_of_its_parent) {
  make("a", "", {{0x10000, 1, present}});
  const UniqueFd b = make("b", "a", {});
  set_parent(b.get(), "../a");
  EXPECT_THROW(set_parent(b.get(), "../c"), Error);
}

}  // namespace
}  // namespace godwit::image
