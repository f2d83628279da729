#include "common/image/image_set.h"

#include "common/base/fd.h"
#include "common/image/core.pb.h"
#include "common/image/files.pb.h"
#include "common/image/inventory.pb.h"
#include "common/image/pstree.pb.h"
#include "common/image/test_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/stat.h>

namespace godwit::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string corruption(auto&& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.errc(), Errc::image_corrupt) << error.what();
    return error.message();
  }
  return "no error";
}

PstreeEntry process(unsigned pid) {
  PstreeEntry entry;
  entry.set_pid(pid);
  entry.set_ppid(0);
  entry.set_pgid(pid);
  entry.set_sid(pid);
  entry.add_threads(pid);
  return entry;
}

TEST(Magic, names_files_as_criu_does) {
  EXPECT_EQ(file_name(Kind::inventory), "inventory.img");
  EXPECT_EQ(file_name(Kind::core, 12), "core-12.img");
  EXPECT_EQ(file_name(Kind::pagemap_shmem, 3), "pagemap-shmem-3.img");
  EXPECT_EQ(file_name(Kind::tcp_stream, 0x2f4a), "tcp-stream-2f4a.img");
  EXPECT_EQ(file_name(Kind::stats_dump), "stats-dump");
}

TEST(Magic, reads_its_own_names_back) {
  for (int k = static_cast<int>(Kind::inventory); k <= static_cast<int>(Kind::stats_restore); ++k) {
    const auto kind = static_cast<Kind>(k);
    const std::uint64_t id = info(kind).id == IdStyle::none ? 0 : 0xabc;
    EXPECT_EQ(parse_file_name(file_name(kind, id)), (NamedImage{kind, id})) << file_name(kind, id);
  }
  for (const char* name :
       {"", "core.img", "core-.img", "core-x.img", "core-1", "core--1.img", "inventory-1.img", "mm-1.img.bak"})
    EXPECT_FALSE(parse_file_name(name)) << name;
}

TEST(Record, puts_the_right_words_in_front) {
  EXPECT_EQ(header(Kind::inventory), "\x16\x31\x31\x58");
  EXPECT_EQ(header(Kind::pstree), "\x19\x43\x56\x54\x30\x30\x27\x50");
  EXPECT_EQ(header(Kind::stats_dump), "\x40\x59\x10\x55\x06\x33\x09\x57");
  EXPECT_EQ(header(Kind::pages), "");
}

TEST(Record, refuses_a_message_that_is_not_complete) {
  std::string bytes;
  EXPECT_THROW(append_record(bytes, PstreeEntry()), Error);
  EXPECT_EQ(bytes, "");
}

TEST(ImageSet, gives_back_what_was_put) {
  ImageSet set;
  set.append(Kind::pstree, 0, process(12));
  set.append(Kind::pstree, 0, process(13));
  PipeDataEntry data;
  data.set_pipe_id(1);
  data.set_bytes(5);
  set.append(Kind::pipes_data, 0, data, "hello");
  data.set_pipe_id(2);
  data.set_bytes(0);
  set.append(Kind::pipes_data, 0, data);

  const auto tree = set.records<PstreeEntry>(Kind::pstree);
  ASSERT_EQ(tree.size(), 2u);
  EXPECT_EQ(tree[1].pid(), 13u);
  const auto pipes =
      set.records_with_payload<PipeDataEntry>(Kind::pipes_data, 0, [](const auto& e) { return e.bytes(); });
  ASSERT_EQ(pipes.size(), 2u);
  EXPECT_EQ(pipes[0].payload, "hello");
  EXPECT_EQ(pipes[1].entry.pipe_id(), 2u);
  EXPECT_TRUE(set.records<FileEntry>(Kind::files).empty());
}

TEST(ImageSet, get_wants_exactly_one_record) {
  ImageSet set;
  EXPECT_THAT(corruption([&] { set.get<PstreeEntry>(Kind::pstree); }), HasSubstr("pstree.img is missing"));
  set.append(Kind::pstree, 0, process(1));
  EXPECT_EQ(set.get<PstreeEntry>(Kind::pstree).pid(), 1u);
  set.append(Kind::pstree, 0, process(2));
  EXPECT_THAT(corruption([&] { set.get<PstreeEntry>(Kind::pstree); }), HasSubstr("more than one record"));
  set.put_file("pstree.img", header(Kind::pstree));
  EXPECT_THAT(corruption([&] { set.get<PstreeEntry>(Kind::pstree); }), HasSubstr("no record"));
}

TEST(ImageSet, a_view_is_of_the_files_as_they_are) {
  ImageSet set;
  EXPECT_THAT(corruption([&] { set.view<PstreeEntry>(Kind::pstree); }), HasSubstr("pstree.img is missing"));
  set.put(Kind::pstree, 0, process(1));
  const PstreeEntry& first = set.view<PstreeEntry>(Kind::pstree);
  EXPECT_EQ(first.pid(), 1u);
  EXPECT_EQ(&set.view<PstreeEntry>(Kind::pstree), &first);
  ImageSet copy = set;
  copy.put(Kind::pstree, 0, process(2));
  EXPECT_EQ(copy.view<PstreeEntry>(Kind::pstree).pid(), 2u);
  EXPECT_EQ(first.pid(), 1u);
  set.put_file("pstree.img", header(Kind::pstree));
  EXPECT_THAT(corruption([&] { set.view<PstreeEntry>(Kind::pstree); }), HasSubstr("no record"));
  EXPECT_THAT(corruption([&] { set.view<PstreeEntry>(Kind::pstree); }), HasSubstr("no record"));
}

TEST(ImageSet, every_cut_names_the_file_and_the_offset) {
  ImageSet set;
  set.append(Kind::pstree, 0, process(300));
  set.append(Kind::pstree, 0, process(301));
  const std::string whole = set.files().at("pstree.img");
  const std::size_t second = (whole.size() - 8) / 2 + 8;
  for (std::size_t size = 0; size < whole.size(); ++size) {
    if (size == 8 || size == second) continue;  // between records: a shorter file, not a broken one
    ImageSet cut;
    cut.put_file("pstree.img", whole.substr(0, size));
    const std::string at = size < 8 ? "0" : size < second ? "8" : std::to_string(second);
    EXPECT_THAT(corruption([&] { cut.records<PstreeEntry>(Kind::pstree); }),
                HasSubstr("pstree.img at offset " + at + ":"));
  }
}

TEST(ImageSet, believes_no_length_and_no_magic) {
  ImageSet set;
  set.put_file("core-12.img", header(Kind::core) + std::string("\xff\xff\xff\xff", 4));
  EXPECT_THAT(corruption([&] { set.get<CoreEntry>(Kind::core, 12); }),
              HasSubstr("core-12.img at offset 8: a record of 4294967295"));
  set.put_file("core-12.img", header(Kind::pstree));
  EXPECT_THAT(corruption([&] { set.get<CoreEntry>(Kind::core, 12); }), HasSubstr("wrong magic"));
  set.put_file("core-12.img", header(Kind::core) + std::string("\x02\0\0\0\xff\xff", 6));
  EXPECT_THAT(corruption([&] { set.get<CoreEntry>(Kind::core, 12); }), HasSubstr("is no godwit.image.CoreEntry"));
  set.put_file("core-12.img", header(Kind::core) + std::string(4, '\0'));
  EXPECT_THAT(corruption([&] { set.get<CoreEntry>(Kind::core, 12); }), HasSubstr("lacks mtype"));
  PipeDataEntry data;
  data.set_pipe_id(1);
  data.set_bytes(0xffffffff);
  set.append(Kind::pipes_data, 0, data, "x");
  EXPECT_THAT(corruption([&] {
                set.records_with_payload<PipeDataEntry>(Kind::pipes_data, 0, [](const auto& e) { return e.bytes(); });
              }),
              HasSubstr("pipes-data.img at offset"));
}

TEST(ImageSet, refuses_names_that_leave_the_directory) {
  ImageSet set;
  for (const char* name : {"", ".", "..", "a/b", "/etc/passwd", "../x", "a\nb", "a b"})
    EXPECT_THAT(corruption([&] { set.put_file(name, ""); }), HasSubstr("no name of an image file")) << name;
}

TEST(ImageSet, survives_a_directory) {
  TestDir dir;
  ImageSet set;
  InventoryEntry inventory;
  inventory.set_img_version(image_version);
  inventory.set_generation("g1");
  set.put(Kind::inventory, 0, inventory);
  set.append(Kind::pstree, 0, process(12));
  set.save(dir.fd());
  write_file(dir.path() + "/pages-1.img", std::string(4096, 'x'));
  write_file(dir.path() + "/notes.txt", "x");

  const ImageSet loaded = ImageSet::load(dir.fd());
  EXPECT_EQ(loaded.files(), set.files());
  EXPECT_EQ(loaded.get<InventoryEntry>(Kind::inventory).generation(), "g1");
  EXPECT_EQ(loaded.size_in_bytes(), set.size_in_bytes());
}

TEST(ImageSet, does_not_follow_links_or_wait_for_fifos) {
  TestDir dir;
  ASSERT_EQ(::symlink("/etc/passwd", (dir.path() + "/mm-1.img").c_str()), 0);
  EXPECT_THROW(ImageSet::load(dir.fd()), Error);
  ASSERT_EQ(::unlink((dir.path() + "/mm-1.img").c_str()), 0);
  ASSERT_EQ(::mkfifo((dir.path() + "/mm-1.img").c_str(), 0600), 0);
  EXPECT_THAT(corruption([&] { ImageSet::load(dir.fd()); }), HasSubstr("not a regular file"));
}

TEST(ImageSet, lists_the_ids_of_a_kind) {
  ImageSet set;
  for (const char* name : {"core-9.img", "core-10.img", "mm-3.img", "pagemap-7.img", "pagemap-shmem-8.img"})
    set.put_file(name, "");
  EXPECT_THAT(set.ids(Kind::core), ElementsAre(9u, 10u));
  EXPECT_THAT(set.ids(Kind::pagemap), ElementsAre(7u));
  EXPECT_THAT(set.ids(Kind::pagemap_shmem), ElementsAre(8u));
}

}  // namespace
}  // namespace godwit::image
