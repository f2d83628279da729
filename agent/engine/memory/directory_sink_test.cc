#include "agent/engine/memory/directory_sink.h"

#include "common/base/check.h"
#include "common/image/page_reader.h"
#include "tests/support/synced_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t frame_pages = pagewire::max_payload / page_size;
constexpr std::uint64_t base = 0x10000000;
const pagewire::ObjectId object = pagewire::object_id(pagewire::ObjectType::task, 1);

// A directory of images on a small file system.
class DirectorySinkTest : public testing::Test {
 protected:
  void SetUp() override {
    place_ = ::mkdtemp(place_.data());
    check(::mount("godwit-test", place_.c_str(), "tmpfs", 0, "size=12m"), "mount a small tmpfs");
    for (const char* name : {"1", "2"}) {
      check(::mkdir((place_ + "/" + name).c_str(), 0700), "make {}", name);
      directories_.push_back(open_file(place_ + "/" + name, O_RDONLY | O_DIRECTORY));
    }
    image::set_parent(second(), "../1");
  }
  void TearDown() override {
    directories_.clear();
    ::umount2(place_.c_str(), MNT_DETACH);
    ::rmdir(place_.c_str());
  }

  int first() const { return directories_[0].get(); }
  int second() const { return directories_[1].get(); }

  // 8 MiB, every byte of it `fill`.
  static void write(DirectorySink& sink, std::byte fill) {
    PageSet held;
    for (std::uint64_t at = base; at < base + (8u << 20); at += pagewire::max_payload) {
      const std::array runs{pagewire::Run{at, frame_pages}};
      held.add(at, at + pagewire::max_payload);
      std::ranges::fill(sink.buffer(), fill);
      sink.pages(object, runs);
    }
    sink.save({{object, &held}}, Storage::cached);
  }

  static std::uint64_t blocks(int directory) {
    struct stat st{};
    check(::fstatat(directory, "pages-1.img", &st, 0), "stat the pages");
    return static_cast<std::uint64_t>(st.st_blocks) * 512;
  }

  std::string place_ = "/tmp/godwit-sink-XXXXXX";

 private:
  std::vector<UniqueFd> directories_;
};

TEST_F(DirectorySinkTest, frees_what_is_superseded_while_it_writes) {
  DirectorySink before(first());
  write(before, std::byte{1});
  DirectorySink after(second(), Superseded::freed);
  write(after, std::byte{2});  // two copies have no room
  EXPECT_EQ(after.freed_in(), std::set{place_ + "/1"});
  EXPECT_EQ(blocks(first()), 0u);
  EXPECT_EQ(blocks(second()), 8u << 20);
  image::PageReader reader(second(), image::Kind::pagemap, 1);
  const auto source = reader.next();
  ASSERT_TRUE(source);
  EXPECT_EQ(source->vaddr, base);
  std::vector<std::byte> page(page_size);
  pread_exact(source->fd, page, source->offset);
  EXPECT_EQ(page[17], std::byte{2});
}

TEST_F(DirectorySinkTest, keeps_the_parents_when_it_is_not_asked_to) {
  DirectorySink before(first());
  write(before, std::byte{1});
  DirectorySink after(second());
  EXPECT_THROW(write(after, std::byte{2}), Error);
  EXPECT_TRUE(after.freed_in().empty());
  EXPECT_EQ(blocks(first()), 8u << 20);
}

TEST_F(DirectorySinkTest, sorts_pages_that_came_late) {
  DirectorySink sink(first());
  PageSet held;
  for (const char page : {'b', 'a'}) {
    const std::uint64_t at = base + (page - 'a') * page_size;
    held.add(at, at + page_size);
    std::ranges::fill(sink.buffer(), static_cast<std::byte>(page));
    sink.pages(object, std::array{pagewire::Run{at, 1}});
  }
  sink.save({{object, &held}}, Storage::cached);
  image::PageReader reader(first(), image::Kind::pagemap, 1);
  const auto source = reader.next();
  ASSERT_TRUE(source);
  std::array<char, 2 * page_size> pages{};
  pread_exact(source->fd, std::as_writable_bytes(std::span(pages)), source->offset);
  EXPECT_EQ((std::array{pages[0], pages[page_size]}), (std::array{'a', 'b'}));
}

// What a machine finds that loses its power when the set is saved.
TEST_F(DirectorySinkTest, is_on_the_disk_when_it_has_to_be) {
  for (const bool sorted : {true, false}) {
    const test::SyncedDisk disk(place_ + "/1");
    DirectorySink sink(first());
    PageSet held;
    for (const char page : {sorted ? 'a' : 'b', sorted ? 'b' : 'a'}) {
      const std::uint64_t at = base + (page - 'a') * page_size;
      held.add(at, at + page_size);
      std::ranges::fill(sink.buffer(), static_cast<std::byte>(page));
      sink.pages(object, std::array{pagewire::Run{at, 1}});
    }
    sink.file("core-1.img", "of the task");
    sink.file("inventory.img", "of the set");
    sink.save({{object, &held}}, Storage::durable);
    sink.close();
    const std::string found = place_ + "/found";
    disk.find_after_power_loss(found);
    std::string pages(2 * page_size, 'a');
    pages.replace(page_size, page_size, page_size, 'b');
    EXPECT_EQ(read_file(found + "/pages-1.img"), pages);
    for (const char* name : {"core-1.img", "inventory.img", "pagemap-1.img"})
      EXPECT_EQ(read_file(found + "/" + name), read_file(place_ + "/1/" + name)) << name;
    EXPECT_EQ(disk.synced().end()[-2], "inventory.img");
  }
}

TEST_F(DirectorySinkTest, waits_for_no_disk_when_the_process_runs_on) {
  const test::SyncedDisk disk(place_ + "/1");
  DirectorySink sink(first());
  write(sink, std::byte{1});
  sink.close();
  EXPECT_TRUE(disk.synced().empty());
}

TEST_F(DirectorySinkTest, leaves_nothing_of_a_sort_that_has_no_room) {
  DirectorySink sink(first());
  PageSet held;
  for (std::uint64_t at = base + (8u << 20); at > base; at -= pagewire::max_payload) {
    held.add(at, at + pagewire::max_payload);
    std::ranges::fill(sink.buffer(), std::byte{1});
    sink.pages(object, std::array{pagewire::Run{at, frame_pages}});
  }
  EXPECT_THROW(sink.save({{object, &held}}, Storage::cached), Error);
  EXPECT_NE(::faccessat(first(), "pages-1.img.sorted", F_OK, 0), 0);
}

TEST_F(DirectorySinkTest, leaves_no_file_of_pages_that_nobody_holds) {
  const pagewire::ObjectId ended = pagewire::object_id(pagewire::ObjectType::task, 2);
  DirectorySink sink(first());
  std::ranges::fill(sink.buffer(), std::byte{1});
  sink.pages(ended, std::array{pagewire::Run{base, 1}});
  write(sink, std::byte{2});
  EXPECT_NE(::faccessat(first(), "pages-1.img", F_OK, 0), 0);
  EXPECT_EQ(::faccessat(first(), "pages-2.img", F_OK, 0), 0);
}

}  // namespace
}  // namespace godwit::engine
