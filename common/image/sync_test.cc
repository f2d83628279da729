#include "common/image/sync.h"

#include "common/image/image_set.h"
#include "common/image/test_dir.h"
#include "tests/support/synced_disk.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace godwit::image {
namespace {

TEST(Sync, brings_every_image_of_a_set_and_of_its_parents_to_the_disk) {
  const TestDir top;
  const std::string names[] = {"inventory.img", "core-1.img", "pages-1.img"};
  for (const char* directory : {"1", "2", "3"}) {
    std::filesystem::create_directory(top.path() + "/" + directory);
    for (const std::string& name : names) write_file(top.path() + "/" + directory + "/" + name, directory + name);
    write_file(top.path() + "/" + directory + "/the.log", "is no image");
  }
  std::filesystem::create_symlink("../2", top.path() + "/3/parent");
  std::filesystem::create_symlink("../1", top.path() + "/2/parent");
  std::filesystem::create_symlink("../3", top.path() + "/1/parent");  // they lead in a circle
  const UniqueFd last = open_at(top.fd(), "3", O_RDONLY | O_DIRECTORY);
  for (const char* directory : {"1", "2", "3"}) {
    const test::SyncedDisk disk(top.path() + "/" + directory);
    sync_with_parents(last.get());
    EXPECT_EQ(disk.synced().size(), 4u) << directory;
    disk.find_after_power_loss(top.path() + "/found");
    for (const std::string& name : names) EXPECT_EQ(read_file(top.path() + "/found/" + name), directory + name);
  }
}

// A set of its own directory may be as new as its files.
TEST(Sync, brings_the_name_of_a_set_to_the_disk) {
  const TestDir top;
  std::filesystem::create_directory(top.path() + "/1");
  const UniqueFd set = open_at(top.fd(), "1", O_RDONLY | O_DIRECTORY);
  const test::SyncedDisk disk(top.path());
  std::vector<std::string> both{"1", "."};
  sync_with_parents(set.get());
  EXPECT_EQ(disk.synced(), both);
  ImageSet().save(set.get(), Storage::durable);
  both.insert(both.end(), {"1", "."});
  EXPECT_EQ(disk.synced(), both);
}

// What is below has been superseded, and was removed.
TEST(Sync, ends_where_a_link_leads_nowhere) {
  const TestDir set;
  write_file(set.path() + "/inventory.img", "I");
  std::filesystem::create_symlink("../gone", set.path() + "/parent");
  EXPECT_NO_THROW(sync_with_parents(set.fd()));
}

}  // namespace
}  // namespace godwit::image
