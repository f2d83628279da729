#include "agent/engine/resources/file_ids.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

namespace godwit::engine::resources {
namespace {

using testing::ElementsAre;

struct stat file(ino_t inode, off_t size = 4096) {
  struct stat st{};
  st.st_dev = 1;
  st.st_ino = inode;
  st.st_mode = S_IFREG | 0644;
  st.st_size = size;
  return st;
}

std::vector<image::FileEntry> files_of(const FileIds& ids) {
  image::ImageSet images;
  ids.write(images);
  return images.records<image::FileEntry>(image::Kind::files);
}

std::vector<std::string> paths_of(const FileIds& ids) {
  std::vector<std::string> paths;
  for (const image::FileEntry& e : files_of(ids)) paths.push_back(e.reg().name());
  return paths;
}

TEST(FileIds, forgets_files_that_a_freeze_does_not_come_across) {
  FileIds ids;
  const std::uint32_t kept = ids.file_for_mapping("/kept", file(1), O_RDONLY);
  const std::uint32_t gone = ids.file_for_mapping("/gone", file(3), O_RDONLY);
  ids.begin_freeze();
  EXPECT_EQ(kept, ids.file_for_mapping("/kept", file(1), O_RDONLY));
  EXPECT_THAT(paths_of(ids), ElementsAre("/kept", "/gone"));
  ids.forget_files();
  EXPECT_THAT(paths_of(ids), ElementsAre("/kept"));
  EXPECT_LT(gone, ids.file_for_mapping("/gone", file(3), O_RDONLY)) << "the id of another file";
}

TEST(FileIds, knows_what_is_mapped_for_one_freeze) {
  FileIds ids;
  const FileIds::MappedFile library{8, 1, "/library", false}, writable{8, 1, "/library", true};
  ids.begin_freeze();
  EXPECT_EQ(ids.told_in_freeze(library), std::nullopt);
  ids.tell_in_freeze(library, 7);
  EXPECT_EQ(ids.told_in_freeze(library), 7);
  EXPECT_EQ(ids.told_in_freeze(writable), std::nullopt);
  ids.begin_freeze();
  EXPECT_EQ(ids.told_in_freeze(library), std::nullopt) << "from one to the next it may have become another one";
}

TEST(FileIds, says_what_a_mapped_file_is_like_now) {
  FileIds ids;
  const auto opens = [](const char* path) { return [path] { return open_file(path, O_RDONLY); }; };
  const auto library = opens("/lib/x86_64-linux-gnu/libc.so.6"), text = opens("/etc/passwd");
  ids.file_for_mapping("/file", file(1, 4096), O_RDONLY, library);
  ids.file_for_mapping("/file", file(1, 8192), O_RDONLY);
  ASSERT_EQ(1u, files_of(ids).size());
  EXPECT_EQ(8192u, files_of(ids)[0].reg().size());
  EXPECT_EQ(5, files_of(ids)[0].reg().build_id_size()) << "nobody has shown its content";
  ids.file_for_mapping("/file", file(1, 4096), O_RDONLY, text);
  EXPECT_EQ(5, files_of(ids)[0].reg().build_id_size()) << "it is the content that was shown before";
  ids.file_for_mapping("/file", file(1, 8192), O_RDONLY, text);
  EXPECT_EQ(0, files_of(ids)[0].reg().build_id_size());
}

TEST(FileIds, knows_nothing_of_a_file_that_cannot_be_opened) {
  FileIds ids;
  const auto gone = []() -> UniqueFd { fail(Errc::not_found, "it has gone"); };
  EXPECT_THROW(ids.file_for_mapping("/gone", file(1), O_RDONLY, gone), Error);
  EXPECT_EQ(files_of(ids).size(), 0u);
}

TEST(FileIds, keeps_what_it_knows_of_a_file_that_cannot_be_opened_any_more) {
  FileIds ids;
  const auto gone = []() -> UniqueFd { fail(Errc::not_found, "it has gone"); };
  const std::uint32_t id = ids.file_for_mapping("/file", file(1, 4096), O_RDONLY);
  EXPECT_THROW(ids.file_for_mapping("/file", file(1, 8192), O_RDONLY, gone), Error);
  ASSERT_EQ(files_of(ids).size(), 1u);
  EXPECT_EQ(files_of(ids)[0].reg().size(), 4096u);
  EXPECT_EQ(ids.file_for_mapping("/file", file(1, 4096), O_RDONLY), id);
}

TEST(FileIds, lets_go_of_memfds_that_a_freeze_does_not_come_across) {
  FileIds ids;
  const UniqueFd kept(check(::memfd_create("kept", MFD_CLOEXEC), "create a memfd"));
  const UniqueFd gone(check(::memfd_create("gone", MFD_CLOEXEC), "create a memfd"));
  struct stat st{};
  for (const UniqueFd* fd : {&kept, &gone}) {
    check(::fstat(fd->get(), &st), "stat");
    ids.memfd_for_mapping(fd->get(), st, O_RDWR);
  }
  ids.begin_freeze();
  check(::fstat(kept.get(), &st), "stat");
  ids.memfd_for_mapping(kept.get(), st, O_RDWR);
  ids.forget_segments();
  ids.forget_files();
  ASSERT_EQ(1u, ids.segments().size());
  EXPECT_EQ(st.st_ino, ids.segments()[0].inode);
  image::ImageSet images;
  ids.write(images);
  EXPECT_EQ(1u, images.records<image::FileEntry>(image::Kind::files).size());
  const auto objects = images.records<image::MemfdInodeEntry>(image::Kind::memfd);
  ASSERT_EQ(1u, objects.size());
  EXPECT_EQ("kept", objects[0].name());
}

}  // namespace
}  // namespace godwit::engine::resources
