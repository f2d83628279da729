#include "common/base/durable_file.h"

#include "common/base/fd.h"
#include "tests/support/synced_disk.h"

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>

#include <stdlib.h>
#include <sys/resource.h>

namespace godwit {
namespace {

class DurableFile : public testing::Test {
 protected:
  ~DurableFile() override { std::filesystem::remove_all(root); }

  std::string after_power_loss() const {
    disk.find_after_power_loss(root + "/found");
    return std::filesystem::exists(root + "/found/file") ? read_file(root + "/found/file") : "none";
  }

  std::string root = [] {
    char name[] = "/tmp/godwit-durable-XXXXXX";
    return std::string(::mkdtemp(name));
  }();
  std::string directory = [this] {
    std::filesystem::create_directory(root + "/state");
    return root + "/state";
  }();
  std::string file = directory + "/file";
  test::SyncedDisk disk{directory};
};

TEST_F(DurableFile, is_on_the_disk_with_its_name_and_so_is_its_successor) {
  replace_file_durably(file, "one");
  EXPECT_EQ(after_power_loss(), "one");
  replace_file_durably(file, "another");
  EXPECT_EQ(after_power_loss(), "another");
  EXPECT_EQ(read_file(file), "another");
}

TEST_F(DurableFile, costs_no_sync_where_a_reboot_makes_it_void) {
  replace_file(file, "one");
  EXPECT_EQ(read_file(file), "one");
  EXPECT_TRUE(disk.synced().empty());
}

TEST_F(DurableFile, that_cannot_be_written_stays_as_it_was) {
  for (const auto replace : {replace_file, replace_file_durably}) {
    replace(file, "one");
    rlimit before{};
    ::getrlimit(RLIMIT_FSIZE, &before);
    const rlimit little{.rlim_cur = 4096, .rlim_max = before.rlim_max};
    const auto handler = ::signal(SIGXFSZ, SIG_IGN);
    ::setrlimit(RLIMIT_FSIZE, &little);
    EXPECT_THROW(replace(file, std::string(8192, 'x')), Error);
    ::setrlimit(RLIMIT_FSIZE, &before);
    ::signal(SIGXFSZ, handler);
    EXPECT_EQ(read_file(file), "one");
    EXPECT_FALSE(std::filesystem::exists(file + ".new"));
  }
  EXPECT_THROW(replace_file_durably(root + "/nowhere/file", "one"), Error);
}

TEST_F(DurableFile, that_a_crash_left_unfinished_is_swept) {
  replace_file(file, "one");
  write_file(file + ".new", "half of ano");
  write_file(directory + "/other.new", "");
  remove_unfinished(directory);
  EXPECT_EQ(read_file(file), "one");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(directory), {}), 1);
}

}  // namespace
}  // namespace godwit
