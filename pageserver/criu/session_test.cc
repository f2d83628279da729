#include "pageserver/criu/session.h"

#include "common/image/page_reader.h"
#include "pageserver/criu/test_session.h"

#include <gtest/gtest.h>

#include <filesystem>

#include <sys/stat.h>

namespace godwit::pageserver::criu {
namespace {

using namespace pagewire::criu;
using image::Kind;
using image::TestDir;
using pagewire::object_id;
using pagewire::ObjectType;

constexpr auto present = static_cast<std::uint32_t>(image::PageFlag::present);
constexpr auto in_parent = static_cast<std::uint32_t>(image::PageFlag::parent);

// The first byte of every page, through all parents.
std::string pages_of(int directory, Kind kind = Kind::pagemap, std::uint64_t id = 12) {
  std::string text;
  image::PageReader reader(directory, kind, id);
  while (const auto source = reader.next())
    for (std::uint64_t i = 0; i < source->pages; i++) {
      char first = 0;
      pread_exact(source->fd, std::as_writable_bytes(std::span(&first, 1)),
                  source->offset + static_cast<off_t>(i * page_size));
      text += first;
    }
  return text;
}

bool has(const TestDir& dir, const std::string& name) { return std::filesystem::exists(dir.path() + "/" + name); }

Errc refused_as_unfinished(const TestDir& dir) {
  try {
    image::Unfinished::refuse(dir.fd());
  } catch (const Error& e) {
    return e.errc();
  }
  return {};
}

class PageSession : public ::testing::Test {
 protected:
  // A complete session: pages 0x10000..0x1f000 of task 12.
  void store_parent(const TestDir& dir) {
    TestSession session(dir.fd());
    session.open();
    session.run(0x10000, 16, 'p');
    ASSERT_EQ(session.close(), 0);
    ASSERT_FALSE(session.outcome());
  }
  // What a session that goes wrong must leave.
  void expect_unusable() {
    EXPECT_EQ(refused_as_unfinished(dir_), Errc::image_corrupt);
    EXPECT_FALSE(has(dir_, "pagemap-12.img"));
  }
  Errc after_open(const Header& header) {
    TestSession session(dir_.fd());
    session.open();
    session.say(header);
    session.say(std::vector<std::byte>(page_size));
    const Errc failure = session.failure();
    expect_unusable();
    return failure;
  }

  TestDir dir_;
};

TEST_F(PageSession, stores_what_both_forms_bring) {
  for (const HeaderSize size : {HeaderSize::until_4_1, HeaderSize::since_4_2}) {
    const TestDir dir;
    TestSession session(dir.fd(), {}, {}, size);
    EXPECT_EQ(session.open(), 0);
    session.run(0x10000, 2, 'a');
    session.run(0x12000, 300, 'b');  // continues: one run in the pagemap
    session.run(0x80000000, 1, 'c');
    EXPECT_EQ(session.open(object_id(ObjectType::shmem, 7)), 0);
    session.run(0, 1, 's', object_id(ObjectType::shmem, 7));
    EXPECT_EQ(session.close(), 0);
    EXPECT_FALSE(session.outcome());

    EXPECT_EQ(pages_of(dir.fd()), "aa" + std::string(300, 'b') + "c");
    EXPECT_EQ(pages_of(dir.fd(), Kind::pagemap_shmem, 7), "s");
    EXPECT_EQ(image::PageReader(dir.fd(), Kind::pagemap, 12).pagemap().runs.size(), 2u);
    EXPECT_TRUE(has(dir, "pages-65537.img"));
    EXPECT_TRUE(has(dir, "pages-65538.img"));
    EXPECT_EQ(refused_as_unfinished(dir), Errc{});
  }
}

TEST_F(PageSession, knows_its_parent_and_checks_holes) {
  const TestDir parent;
  store_parent(parent);
  image::set_parent(dir_.fd(), parent.path());
  {
    TestSession session(dir_.fd());
    EXPECT_EQ(session.parent_has(), 1);
    EXPECT_EQ(session.parent_has(object_id(ObjectType::task, 13)), 0);
    EXPECT_EQ(session.open(), 1);
    session.hole(0x10000, 4);
    session.run(0x14000, 1, 'n');
    session.hole(0x15000, 11);
    EXPECT_EQ(session.close(), 0);
    EXPECT_FALSE(session.outcome());
  }
  EXPECT_EQ(pages_of(dir_.fd()), "ppppn" + std::string(11, 'p'));

  const TestDir other;
  image::set_parent(other.fd(), parent.path());
  TestSession session(other.fd());
  session.open();
  session.hole(0x15000, 12);
  session.hang_up();
  EXPECT_EQ(session.failure(), Errc::protocol) << "the last page is not there";
}

TEST_F(PageSession, a_hole_over_what_a_dedup_has_freed_is_refused) {
  const TestDir parent, child;
  store_parent(parent);
  image::set_parent(child.fd(), parent.path());
  {
    TestSession session(child.fd(), {.auto_dedup = true});
    session.open();
    session.run(0x14000, 1, 'n');
    ASSERT_EQ(session.close(), 0);
  }
  image::set_parent(dir_.fd(), parent.path());  // and not the child, which has that page
  TestSession session(dir_.fd());
  session.open();
  session.hole(0x10000, 16);
  session.hang_up();
  EXPECT_EQ(session.failure(), Errc::protocol);
}

TEST_F(PageSession, a_hole_needs_a_parent) {
  EXPECT_EQ(after_open({.command = Command::add, .flags = run_parent, .pages = 1, .address = 4096, .object = task_12}),
            Errc::protocol);
}

TEST_F(PageSession, frees_what_is_superseded) {
  const TestDir parent;
  store_parent(parent);
  image::set_parent(dir_.fd(), parent.path());
  TestSession session(dir_.fd(), {.auto_dedup = true});
  EXPECT_EQ(session.open(), 1);
  session.run(0x10000, 8, 'n');
  session.hole(0x18000, 8);
  EXPECT_EQ(session.close(), 0);
  EXPECT_FALSE(session.outcome());
  struct stat st{};
  check(::stat((parent.path() + "/pages-65537.img").c_str(), &st), "stat");
  EXPECT_EQ(st.st_blocks * 512, 8 * 4096);
  EXPECT_EQ(st.st_size, 16 * 4096);
  EXPECT_EQ(pages_of(dir_.fd()), "nnnnnnnnpppppppp");
}

TEST_F(PageSession, without_a_close_the_set_is_unusable_until_another_session_comes) {
  {
    TestSession session(dir_.fd());
    session.open();
    session.run(0x10000, 3, 'x');
    session.hang_up();
    EXPECT_EQ(session.failure(), Errc::peer_lost);
  }
  expect_unusable();
  store_parent(dir_);
  EXPECT_EQ(pages_of(dir_.fd()), std::string(16, 'p'));
  EXPECT_TRUE(has(dir_, "pages-65537.img"));
  EXPECT_FALSE(has(dir_, "pages-65538.img")) << "what the first one left was removed";
  EXPECT_EQ(refused_as_unfinished(dir_), Errc{});
}

TEST_F(PageSession, ends_within_a_run_or_a_command_are_told) {
  TestSession session(dir_.fd());
  session.open();
  session.say({.command = Command::add, .flags = run_present, .pages = 2, .address = 4096, .object = task_12});
  session.say(std::vector<std::byte>(5000));
  session.hang_up();
  EXPECT_EQ(session.failure(), Errc::peer_lost);
  TestSession half(dir_.fd());
  half.say(std::vector<std::byte>(10));
  half.hang_up();
  EXPECT_EQ(half.failure(), Errc::peer_lost);
}

TEST_F(PageSession, never_overwrites_a_finished_set) {
  store_parent(dir_);
  TestSession session(dir_.fd());
  EXPECT_EQ(session.open(), -1);
  EXPECT_EQ(session.failure(), Errc::already_exists);
  EXPECT_EQ(pages_of(dir_.fd()), std::string(16, 'p'));
}

TEST_F(PageSession, numbers_that_cannot_be_are_refused) {
  const Header run{.command = Command::add, .flags = run_present, .pages = 1, .address = 0x10000, .object = task_12};
  Header bad = run;
  bad.pages = 1ull << 52;  // times 4096 is 0
  EXPECT_EQ(after_open(bad), Errc::protocol);
  bad.pages = ~0ull;
  EXPECT_EQ(after_open(bad), Errc::protocol);
  bad = run;
  bad.object = object_id(ObjectType::task, 13);  // is not open
  EXPECT_EQ(after_open(bad), Errc::protocol);
  bad.object = 12 << 8 | 200;
  EXPECT_EQ(after_open(bad), Errc::protocol);
  bad = run;
  bad.command = Command::get;
  EXPECT_EQ(after_open(bad), Errc::protocol);
  bad.command = static_cast<Command>(77);
  EXPECT_EQ(after_open(bad), Errc::protocol);
  EXPECT_EQ(after_open({.command = Command::open2, .object = task_12}), Errc::protocol) << "opened twice";
}

TEST_F(PageSession, pages_before_anything_is_open_are_refused) {
  TestSession session(dir_.fd());
  session.run(0x10000, 1, 'x');
  session.hang_up();
  EXPECT_EQ(session.failure(), Errc::protocol);
}

TEST_F(PageSession, runs_ascend) {
  TestSession session(dir_.fd());
  session.open();
  session.run(0x10000, 2, 'x');
  session.run(0x11000, 1, 'y');
  session.hang_up();
  EXPECT_EQ(session.failure(), Errc::protocol);
}

TEST_F(PageSession, many_one_page_runs_are_stored) {
  TestSession session(dir_.fd());
  session.open();
  for (std::uint64_t i = 0; i < 20'000; i++) session.run(0x10000 + 2 * i * page_size, 1, 'x');
  EXPECT_EQ(session.close(), 0);
  EXPECT_FALSE(session.outcome());
  EXPECT_EQ(pages_of(dir_.fd()), std::string(20'000, 'x'));
}

TEST_F(PageSession, nobody_is_waited_for_for_ever) {
  const SessionLimits short_ones{.idle = std::chrono::milliseconds(200), .stall = std::chrono::milliseconds(200)};
  TestSession silent(dir_.fd(), {}, short_ones);
  EXPECT_EQ(silent.failure(), Errc::timed_out);
  TestSession slow(dir_.fd(), {}, short_ones);
  slow.open();
  slow.say({.command = Command::add, .flags = run_present, .pages = 2, .address = 4096, .object = task_12});
  slow.say(std::vector<std::byte>(100));
  EXPECT_EQ(slow.failure(), Errc::timed_out);
}

TEST_F(PageSession, links_that_lie_in_wait_are_not_followed) {
  const TestDir elsewhere;
  write_file(elsewhere.path() + "/victim", "untouched");
  for (const char* name : {"pages-65537.img", "pagemap-12.img.part"})
    std::filesystem::create_symlink(elsewhere.path() + "/victim", dir_.path() + "/" + name);
  TestSession session(dir_.fd());
  EXPECT_EQ(session.open(), -1);
  EXPECT_EQ(session.failure(), Errc::already_exists);
  EXPECT_EQ(read_file(elsewhere.path() + "/victim"), "untouched");

  // A mark that names what is no image of a session.
  const TestDir marked;
  write_file(marked.path() + "/keep.txt", "x");
  write_file(marked.path() + "/core-12.img", "x");
  write_file(marked.path() + "/unfinished", "keep.txt\n../keep.txt\ncore-12.img\npages-65537.img\n");
  TestSession next(marked.fd());
  EXPECT_EQ(next.open(), 0);
  EXPECT_EQ(next.close(), 0);
  EXPECT_TRUE(has(marked, "keep.txt") && has(marked, "core-12.img"));
}

TEST_F(PageSession, a_session_of_nothing_can_be_closed) {
  for (const HeaderSize size : {HeaderSize::until_4_1, HeaderSize::since_4_2}) {
    const TestDir dir;
    TestSession session(dir.fd(), {}, {}, size);
    EXPECT_EQ(session.close(), 0);
    EXPECT_FALSE(session.outcome());
  }
}

TEST_F(PageSession, one_writer_at_a_time) {
  TestSession first(dir_.fd());
  EXPECT_EQ(first.open(), 0);
  TestSession second(dir_.fd());
  EXPECT_EQ(second.failure(), Errc::busy);
  EXPECT_EQ(first.close(), 0);
}

}  // namespace
}  // namespace godwit::pageserver::criu
