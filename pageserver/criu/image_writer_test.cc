#include "pageserver/criu/image_writer.h"

#include "common/image/test_dir.h"
#include "tests/support/synced_disk.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>

namespace godwit::pageserver::criu {
namespace {

TEST(ImageWriter, whoever_hears_that_a_set_is_stored_finds_it_after_a_power_loss) {
  const image::TestDir dir, found;
  const test::SyncedDisk disk(dir.path());
  ImageWriter images(dir.fd(), {});
  const auto task = pagewire::object_id(pagewire::ObjectType::task, 12);
  images.open(task);
  images.begin({.command = pagewire::criu::Command::add,
                .flags = pagewire::criu::run_present,
                .pages = 1,
                .address = 0x10000,
                .object = task});
  const std::array<std::byte, page_size> page{};
  const std::array pieces{Piece(page)};
  images.append(pieces);
  images.finish();
  disk.find_after_power_loss(found.path());
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(found.path())) names.insert(entry.path().filename());
  EXPECT_EQ(names, (std::set<std::string>{"pagemap-12.img", "pages-65537.img"}));
  EXPECT_EQ(read_file(found.path() + "/pagemap-12.img"), read_file(dir.path() + "/pagemap-12.img"));
}

}  // namespace
}  // namespace godwit::pageserver::criu
