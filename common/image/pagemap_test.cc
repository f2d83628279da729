#include "common/image/page_reader.h"

#include "common/base/fd.h"
#include "common/base/units.h"
#include "common/image/pagemap.pb.h"
#include "common/image/record.h"
#include "common/image/test_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>

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

constexpr auto present = static_cast<std::uint32_t>(PageFlag::present);
constexpr auto parent = static_cast<std::uint32_t>(PageFlag::parent);

std::string file_of(const std::vector<PagemapEntry>& entries) {
  std::string bytes = header(Kind::pagemap);
  PagemapHead head;
  head.set_pages_id(1);
  append_record(bytes, head);
  for (const PagemapEntry& entry : entries) append_record(bytes, entry);
  return bytes;
}

PagemapEntry entry(std::uint64_t vaddr, std::uint32_t compat) {
  PagemapEntry e;
  e.set_vaddr(vaddr);
  e.set_compat_nr_pages(compat);
  return e;
}

TEST(Pagemap, keeps_the_count_where_every_criu_finds_it) {
  PagemapWriter writer(1);
  writer.add(0x10000, 3, PageFlag::present);
  // length 8, vaddr 0x10000, field 2 = 3, flags 4; no field 5
  EXPECT_EQ(writer.finish(),
            header(Kind::pagemap) + std::string("\x02\0\0\0\x08\x01\x08\0\0\0\x08\x80\x80\x04\x10\x03\x20\x04", 18));
}

TEST(Pagemap, joins_what_continues_and_drops_what_is_empty) {
  PagemapWriter writer(7);
  writer.add(0x1000, 1, PageFlag::present);
  writer.add(0x2000, 2, PageFlag::present);
  writer.add(0x4000, 1, PageFlag::parent);
  writer.add(0x6000, 0, PageFlag::present);
  writer.add(0x6000, 1, PageFlag::parent);
  const Pagemap map = read_pagemap("p", writer.finish());
  EXPECT_EQ(map.pages_id, 7u);
  EXPECT_EQ(map.bytes_present, 3 * page_size);
  EXPECT_THAT(map.runs,
              ElementsAre(PageRun{0x1000, 3, present}, PageRun{0x4000, 1, parent}, PageRun{0x6000, 1, parent}));
}

TEST(Pagemap, keeps_runs_apart_that_were_ended) {
  PagemapWriter writer(1);
  writer.add(0x1000, 2, PageFlag::present);
  writer.end_run();
  writer.end_run();
  EXPECT_THROW(writer.add(0x2000, 1, PageFlag::present), Error);
  writer.add(0x3000, 1, PageFlag::present);
  EXPECT_THAT(read_pagemap("p", writer.finish()).runs,
              ElementsAre(PageRun{0x1000, 2, present}, PageRun{0x3000, 1, present}));
}

TEST(Pagemap, splits_runs_beyond_32_bits) {
  PagemapWriter writer(1);
  writer.add(0, (std::uint64_t{1} << 33) + 5, PageFlag::parent);
  const Pagemap map = read_pagemap("p", writer.finish());
  std::uint64_t at = 0;
  for (const PageRun& run : map.runs) {
    EXPECT_EQ(run.vaddr, at);
    EXPECT_LE(run.pages, 0xffffffffu);
    at = run.end();
  }
  EXPECT_EQ(at, ((std::uint64_t{1} << 33) + 5) * page_size);
}

TEST(Pagemap, cuts_the_run_that_crosses_a_mark) {
  const auto runs = [](std::uint64_t cut) {
    PagemapWriter writer(1, cut);
    writer.add(0, 2, PageFlag::present);
    writer.add(2 * page_size, 6, PageFlag::present);
    return read_pagemap("pagemap-shmem-1.img", writer.finish()).runs;
  };
  EXPECT_THAT(runs(5 * page_size), ElementsAre(PageRun{0, 5, present}, PageRun{5 * page_size, 3, present}));
  for (const std::uint64_t nowhere : {0ul, 8 * page_size, 100 * page_size})
    EXPECT_THAT(runs(nowhere), ElementsAre(PageRun{0, 8, present})) << nowhere;
}

TEST(Pagemap, does_not_write_runs_out_of_order) {
  PagemapWriter writer(1);
  writer.add(0x4000, 2, PageFlag::present);
  EXPECT_THROW(writer.add(0x5000, 1, PageFlag::present), Error);
  EXPECT_THROW(writer.add(0x7001, 1, PageFlag::present), Error);
}

TEST(Pagemap, reads_what_every_criu_wrote) {
  PagemapEntry criu42 = entry(0x10000, 0);
  criu42.set_nr_pages(3);
  criu42.set_flags(present);
  PagemapEntry old_parent = entry(0x20000, 1);
  old_parent.set_in_parent(true);
  const Pagemap map = read_pagemap("p", file_of({criu42, old_parent, entry(0x30000, 2)}));
  EXPECT_THAT(map.runs,
              ElementsAre(PageRun{0x10000, 3, present}, PageRun{0x20000, 1, parent}, PageRun{0x30000, 2, present}));
}

TEST(Pagemap, refuses_what_cannot_be) {
  const auto error = [](const std::vector<PagemapEntry>& entries) {
    return corruption([&] { read_pagemap("pagemap-5.img", file_of(entries)); });
  };
  EXPECT_THAT(error({entry(0x1000, 0)}), HasSubstr("pagemap-5.img at offset 14: impossible run"));
  EXPECT_THAT(error({entry(0x1001, 1)}), HasSubstr("impossible run"));
  EXPECT_THAT(error({entry(0xfffffffffffff000, 1)}), HasSubstr("impossible run"));
  EXPECT_THAT(error({entry(0x1000, 2), entry(0x2000, 1)}), HasSubstr("overlaps"));
  EXPECT_THAT(error({entry(0x2000, 1), entry(0x1000, 1)}), HasSubstr("overlaps"));
  PagemapEntry huge = entry(0x1000, 1);
  huge.set_nr_pages(UINT64_MAX / 2);
  EXPECT_THAT(error({huge}), HasSubstr("impossible run"));
  PagemapEntry both = entry(0x1000, 1);
  both.set_flags(present | parent);
  EXPECT_THAT(error({both}), HasSubstr("both"));
  EXPECT_THAT(corruption([] { read_pagemap("p", header(Kind::pagemap)); }), HasSubstr("no head"));
}

// A model of memory: address of a page -> its fill byte.
using Memory = std::map<std::uint64_t, char>;

void write_images(const TestDir& dir, const std::vector<PageRun>& runs, const Memory& memory) {
  PagemapWriter writer(1);
  std::string pages;
  for (const PageRun& run : runs) {
    writer.add(run);
    for (std::uint64_t at = run.vaddr; run.flags == present && at < run.end(); at += page_size)
      pages.append(page_size, memory.at(at));
  }
  write_file(dir.path() + "/pagemap-5.img", writer.finish());
  write_file(dir.path() + "/pages-1.img", pages);
}

Memory read_images(const TestDir& dir) {
  Memory memory;
  PageReader reader(dir.fd(), Kind::pagemap, 5);
  while (const auto run = reader.next()) {
    std::string bytes(run->pages * page_size, '\0');
    pread_exact(run->fd, std::as_writable_bytes(std::span(bytes)), run->offset);
    for (std::uint64_t i = 0; i < run->pages; ++i) {
      const std::string_view page = std::string_view(bytes).substr(i * page_size, page_size);
      EXPECT_EQ(page.find_first_not_of(page[0]), std::string_view::npos);
      memory[run->vaddr + i * page_size] = page[0];
    }
  }
  return memory;
}

TEST(PageReader, gathers_a_run_from_several_parents) {
  TestDir oldest, middle, newest;
  write_images(oldest, {{0x1000, 8, present}},
               {{0x1000, 'a'},
                {0x2000, 'b'},
                {0x3000, 'c'},
                {0x4000, 'd'},
                {0x5000, 'e'},
                {0x6000, 'f'},
                {0x7000, 'g'},
                {0x8000, 'h'}});
  write_images(middle, {{0x1000, 2, parent}, {0x3000, 2, present}, {0x5000, 3, parent}},
               {{0x3000, 'C'}, {0x4000, 'D'}});
  write_images(newest, {{0x1000, 1, present}, {0x2000, 5, parent}}, {{0x1000, 'A'}});
  set_parent(middle.fd(), oldest.path());
  set_parent(newest.fd(), middle.path());
  EXPECT_EQ(read_images(newest),
            (Memory{{0x1000, 'A'}, {0x2000, 'b'}, {0x3000, 'C'}, {0x4000, 'D'}, {0x5000, 'e'}, {0x6000, 'f'}}));
}

TEST(PageReader, agrees_with_a_model_over_random_chains) {
  std::mt19937 random(1);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::unique_ptr<TestDir>> chain;
    Memory memory;
    for (int depth = 0; depth < 4; ++depth) {
      Memory written;
      std::vector<PageRun> runs;
      for (std::uint64_t at = 0x1000; at < 0x40000; at += page_size) {
        const auto dice = random() % 4;
        if (dice == 0) {
          memory.erase(at);
        } else if (dice == 1 && memory.contains(at)) {
          runs.push_back({at, 1, parent});
        } else {
          memory[at] = written[at] = static_cast<char>('a' + random() % 26);
          runs.push_back({at, 1, present});
        }
      }
      chain.push_back(std::make_unique<TestDir>());
      write_images(*chain.back(), runs, written);
      if (depth > 0) set_parent(chain.back()->fd(), chain[chain.size() - 2]->path());
    }
    EXPECT_EQ(read_images(*chain.back()), memory);
  }
}

TEST(PageReader, names_what_is_missing) {
  TestDir child, older;
  EXPECT_THAT(corruption([&] { PageReader(child.fd(), Kind::pagemap, 5); }), HasSubstr("pagemap-5.img is missing"));
  write_images(child, {{0x1000, 3, parent}}, {});
  EXPECT_THAT(corruption([&] { read_images(child); }),
              HasSubstr("pagemap-5.img at offset 14: pagemap-5.img refers to a parent, but there is no parent"));
  set_parent(child.fd(), older.path());
  EXPECT_THAT(corruption([&] { read_images(child); }),
              HasSubstr("pagemap-5.img at offset 14: parent/pagemap-5.img is missing"));
  write_images(older, {{0x1000, 2, present}}, {{0x1000, 'a'}, {0x2000, 'b'}});
  EXPECT_THAT(corruption([&] { read_images(child); }),
              HasSubstr("pagemap-5.img at offset 14: parent/pagemap-5.img has no page 0x3000"));
  ASSERT_EQ(::truncate((older.path() + "/pages-1.img").c_str(), 4096), 0);
  EXPECT_THAT(corruption([&] { read_images(child); }),
              HasSubstr("parent/pages-1.img at offset 4096: the file ends, parent/pagemap-5.img needs 8192 bytes"));
}

TEST(PageReader, is_not_caught_in_a_loop) {
  TestDir one, two;
  write_images(one, {{0x1000, 1, parent}}, {});
  write_images(two, {{0x1000, 1, parent}}, {});
  set_parent(one.fd(), two.path());
  set_parent(two.fd(), one.path());
  EXPECT_THAT(corruption([&] { read_images(one); }), HasSubstr("leads back"));
}

TEST(PageReader, opens_a_parent_only_when_it_is_needed) {
  TestDir child;
  write_images(child, {{0x1000, 1, present}, {0x3000, 1, parent}}, {{0x1000, 'x'}});
  set_parent(child.fd(), "nowhere");
  PageReader reader(child.fd(), Kind::pagemap, 5);
  EXPECT_TRUE(reader.next());
  EXPECT_THROW(reader.next(), Error);
}

}  // namespace
}  // namespace godwit::image
