#include "common/image/generation.h"

#include "common/base/fd.h"
#include "common/image/image_set.h"
#include "common/image/inventory.pb.h"
#include "common/image/page_reader.h"
#include "common/image/test_dir.h"
#include "common/image/unfinished.h"

#include <gtest/gtest.h>

#include <set>

namespace godwit::image {
namespace {

void say(const TestDir& dir, const std::string& own, const std::string& parent = {}) {
  InventoryEntry inventory;
  inventory.set_img_version(image_version);
  if (!own.empty()) inventory.set_generation(own);
  if (!parent.empty()) inventory.set_parent_generation(parent);
  ImageSet set;
  set.put(Kind::inventory, 0, inventory);
  set.save(dir.fd());
}

void store_tag(const TestDir& dir, const std::string& generation, const std::string& parent = {}) {
  if (!parent.empty())
    write_file(dir.path() + "/" + file_name(Kind::pagemap, parent_tag_of(parent)), header(Kind::pagemap));
  write_file(dir.path() + "/" + file_name(Kind::pagemap, tag_of(generation)), header(Kind::pagemap));
}

// What is said against the chain that begins here; empty: nothing.
std::string refused(const TestDir& dir) {
  try {
    refuse_other_pages(dir.fd());
    return {};
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::refused) << e.message();
    EXPECT_FALSE(e.hint().empty());
    return e.message();
  }
}

// one <- two <- three
class GenerationTest : public ::testing::Test {
 protected:
  GenerationTest() {
    set_parent(two_.fd(), one_.path());
    set_parent(three_.fd(), two_.path());
  }
  void expect_refused(const TestDir& parent, const TestDir& child) {
    const std::string message = refused(three_);
    EXPECT_NE(message.find(parent.path() + ": this is not the dump"), std::string::npos) << message;
    EXPECT_NE(message.find(child.path()), std::string::npos) << message;
  }
  TestDir one_, two_, three_;
};

TEST_F(GenerationTest, a_chain_as_it_was_dumped) {
  say(one_, "a");
  say(two_, "b", "a");
  say(three_, "c", "b");
  EXPECT_EQ(refused(three_), "");
  EXPECT_EQ(refused(one_), "");
}

TEST_F(GenerationTest, a_parent_that_was_dumped_again) {
  say(one_, "a");
  say(two_, "x");
  say(three_, "c", "b");
  expect_refused(two_, three_);
}

TEST_F(GenerationTest, a_parent_further_up_that_was_dumped_again) {
  say(one_, "x");
  say(two_, "b", "a");
  say(three_, "c", "b");
  expect_refused(one_, two_);
}

TEST_F(GenerationTest, a_parent_that_another_dump_has_left_unfinished) {
  say(two_, "b", "a");
  say(three_, "c", "b");
  expect_refused(one_, two_);
}

TEST_F(GenerationTest, what_is_not_said_is_not_compared) {
  say(one_, "");  // as crit and CRIU write it
  say(two_, "b", "a");
  say(three_, "c", "b");
  EXPECT_EQ(refused(three_), "");
  say(two_, "");
  EXPECT_EQ(refused(three_), "");
  say(three_, "");
  EXPECT_EQ(refused(three_), "");
}

TEST_F(GenerationTest, what_is_whole_rests_on_nothing) {
  store_tag(one_, "a");
  say(one_, "x");
  say(two_, "b");
  say(three_, "c", "b");
  EXPECT_EQ(refused(three_), "");
  EXPECT_NE(refused(one_), "");
}

TEST_F(GenerationTest, a_parent_that_is_not_there_is_left_to_whoever_reads_pages) {
  say(three_, "c", "b");
  std::filesystem::remove_all(two_.path());
  EXPECT_EQ(refused(three_), "");
}

TEST_F(GenerationTest, a_circle_has_an_end) {
  set_parent(one_.fd(), three_.path());
  say(one_, "a", "c");
  say(two_, "b", "a");
  say(three_, "c", "b");
  EXPECT_EQ(refused(three_), "");
}

TEST_F(GenerationTest, a_page_server_s_directory_says_it_by_its_tag) {
  store_tag(one_, "a");
  say(two_, "b", "a");
  say(three_, "c", "b");
  EXPECT_EQ(refused(three_), "");
  std::filesystem::remove(one_.path() + "/" + file_name(Kind::pagemap, tag_of("a")));
  store_tag(one_, "x");
  expect_refused(one_, two_);
}

TEST_F(GenerationTest, a_chain_of_a_page_server_s_directories_is_known_all_the_way_up) {
  store_tag(one_, "a");
  store_tag(two_, "b", "a");
  store_tag(three_, "c", "b");
  say(three_, "c", "b");  // the last one only has been made complete
  EXPECT_EQ(refused(three_), "");
  std::filesystem::remove(one_.path() + "/" + file_name(Kind::pagemap, tag_of("a")));
  store_tag(one_, "x");
  expect_refused(one_, two_);
}

TEST_F(GenerationTest, the_rest_of_a_dump_beside_the_pages_of_another) {
  say(one_, "a");
  store_tag(one_, "a");
  EXPECT_EQ(refused(one_), "");
  say(one_, "b");
  EXPECT_NE(refused(one_).find(one_.path()), std::string::npos);
}

TEST(Tags, are_no_pids_and_fit_into_an_int) {
  std::set<std::uint64_t> all;
  for (int i = 0; i < 1000; i++) {
    all.insert(tag_of(std::to_string(i)));
    all.insert(parent_tag_of(std::to_string(i)));
  }
  EXPECT_EQ(all.size(), 2000u);
  EXPECT_GE(*all.begin(), 1u << 30);
  EXPECT_LT(*all.rbegin(), 1u << 31);
  EXPECT_EQ(tag_of("0123456789abcdef0123456789abcdef"), 1076514706u) << "it is in directories that others have written";
}

TEST(Unfinished, sets_have_neither_inventory_nor_tag) {
  const auto failure = [](const TestDir& dir) {
    try {
      refuse_unfinished(dir.fd());
    } catch (const Error& e) {
      return e.errc();
    }
    return Errc{};
  };
  const TestDir whole, stored, nothing;
  say(whole, "");
  store_tag(stored, "a");
  EXPECT_EQ(failure(whole), Errc{});
  EXPECT_EQ(failure(stored), Errc{});
  EXPECT_EQ(failure(nothing), Errc::image_corrupt);
  const Unfinished writer(stored.fd());
  EXPECT_EQ(failure(stored), Errc::image_corrupt);
}

}  // namespace
}  // namespace godwit::image
