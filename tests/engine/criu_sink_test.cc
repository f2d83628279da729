// The engine's end of a page stream against the page server's, on a socket pair.

#include "agent/engine/memory/criu_sink.h"
#include "common/image/inventory.pb.h"
#include "common/image/mm.pb.h"
#include "common/image/page_reader.h"
#include "common/image/test_dir.h"
#include "common/image/vma_status.h"
#include "pageserver/criu/relay.h"
#include "pageserver/criu/session.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <future>
#include <thread>

#include <sys/mman.h>
#include <sys/socket.h>

namespace godwit::engine {
namespace {

using image::Kind;
using image::TestDir;
using pagewire::ObjectId;
using pagewire::ObjectType;
using pagewire::criu::HeaderSize;

constexpr ObjectId task = pagewire::object_id(ObjectType::task, 12);
constexpr ObjectId segment = pagewire::object_id(ObjectType::shmem, 3);
constexpr std::uint64_t page(std::uint64_t n) { return n * page_size; }

// An address space with a mapping of the segment, from `from` to `end` of it.
image::MmEntry mapping_of_segment(std::uint64_t from, std::uint64_t end) {
  image::MmEntry mm;
  mm.set_mm_start_code(0);
  mm.set_mm_end_code(0);
  mm.set_mm_start_data(0);
  mm.set_mm_end_data(0);
  mm.set_mm_start_stack(0);
  mm.set_mm_start_brk(0);
  mm.set_mm_brk(0);
  mm.set_mm_arg_start(0);
  mm.set_mm_arg_end(0);
  mm.set_mm_env_start(0);
  mm.set_mm_env_end(0);
  mm.set_exe_file_id(0);
  image::VmaEntry& vma = *mm.add_vmas();
  vma.set_start(page(100));
  vma.set_end(page(100) + (end - from));
  vma.set_pgoff(from);
  vma.set_shmid(pagewire::object_number(segment));
  vma.set_prot(PROT_READ);
  vma.set_flags(MAP_SHARED);
  vma.set_status(image::vma_status::regular | image::vma_status::anon_shared);
  vma.set_fd(-1);
  return mm;
}

// A page server that takes one session into a directory.
class Server {
 public:
  explicit Server(int directory) {
    auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_STREAM);
    client_ = std::move(ours);
    net::adopt_stream(theirs.get());
    done_ = std::async(std::launch::async, [directory, socket = std::move(theirs)]() mutable {
      try {
        pageserver::criu::PlainStream stream(std::move(socket));
        pageserver::criu::ImageWriter images(directory, {});
        pageserver::criu::Session(stream, images).run();
        return true;
      } catch (const Error&) {
        return false;
      }
    });
  }
  UniqueFd take_client() { return std::move(client_); }
  bool stored_everything() { return done_.get(); }

 private:
  UniqueFd client_;
  std::future<bool> done_;
};

enum class Way { socket, ring };

// To the server itself, or to a relay that has the pages from a ring.
class CriuSinkTest : public ::testing::TestWithParam<std::tuple<HeaderSize, Way>> {
 protected:
  static HeaderSize header() { return std::get<0>(GetParam()); }
  CriuClient client(Server& server) { return client(server.take_client()); }
  CriuClient client(UniqueFd to_server, ClientLimits limits = {}) {
    if (std::get<1>(GetParam()) == Way::socket) return CriuClient(std::move(to_server), header(), nullptr, limits);
    auto [ours, relays] = make_socketpair(AF_UNIX, SOCK_STREAM);
    net::adopt_stream(relays.get());
    net::adopt_stream(to_server.get());
    pagewire::RingFds made = pagewire::make_ring();
    pagewire::send_ring(relays.get(), made);
    relay_ = std::async(std::launch::async, [size = header(), ring = std::move(made), engine = std::move(relays),
                                             server = std::move(to_server)]() mutable {
      using namespace pageserver::criu;
      try {
        PlainStream from(std::move(engine)), to(std::move(server));
        pagewire::Ring pages(std::move(ring));
        RingPages source(pages, from.fd());
        relay(from, source, to, size);
      } catch (const Error&) {  // it hangs up
      }
    });
    auto ring = std::make_unique<pagewire::Ring>(pagewire::receive_ring(ours.get(), std::chrono::seconds(5)));
    return CriuClient(std::move(ours), header(), std::move(ring), limits);
  }
  // Pages whose first byte is given by `content`, one letter a page.
  static void emit(DumpSink& sink, ObjectId object, const std::vector<pagewire::Run>& runs, std::string_view content) {
    std::span<std::byte> buffer = sink.buffer();
    for (std::size_t i = 0; i < content.size(); i++) std::memset(buffer.data() + i * page_size, content[i], page_size);
    sink.pages(object, runs);
  }
  static std::string stored(const TestDir& dir, Kind kind = Kind::pagemap, std::uint64_t id = 12) {
    std::string text;
    image::PageReader reader(dir.fd(), kind, id);
    while (const auto source = reader.next())
      for (std::uint64_t i = 0; i < source->pages; i++) {
        char first = 0;
        pread_exact(source->fd, std::as_writable_bytes(std::span(&first, 1)),
                    source->offset + static_cast<off_t>(page(i)));
        text += fmt::format("{}{} ", source->vaddr / page_size + i, first == 0 ? '0' : first);
      }
    return text;
  }
  static PageSet set(const std::vector<pagewire::Run>& runs) {
    PageSet pages;
    for (const pagewire::Run& r : runs) pages.add(r.address, r.address + page(r.pages));
    return pages;
  }

  TestDir pages_, images_;

 private:
  std::future<void> relay_;
};
INSTANTIATE_TEST_SUITE_P(Headers, CriuSinkTest,
                         ::testing::Combine(::testing::Values(HeaderSize::until_4_1, HeaderSize::since_4_2),
                                            ::testing::Values(Way::socket, Way::ring)),
                         [](const auto& p) {
                           return std::to_string(pagewire::criu::bytes_in(std::get<0>(p.param))) +
                                  (std::get<1>(p.param) == Way::ring ? "_ring" : "");
                         });

TEST_P(CriuSinkTest, objects_are_stored_one_after_the_other) {
  Server server(pages_.fd());
  CriuStream sink(client(server), images_.fd());
  emit(sink, task, {{page(15), 3}, {page(20), 1}}, std::string_view("\0abc", 4));
  emit(sink, task, {{page(30), 1}}, "d");
  emit(sink, segment, {{0, 1}}, "s");
  sink.file("layout-mm-12", "is for live migrations");
  sink.file("inventory.img", "I");
  const PageSet pages = set({{page(15), 3}, {page(20), 1}, {page(30), 1}}), shared = set({{0, 1}});
  sink.save({{task, &pages}, {segment, &shared}}, Storage::cached);
  EXPECT_TRUE(server.stored_everything());
  EXPECT_EQ(stored(pages_), "150 16a 17b 20c 30d ");
  EXPECT_EQ(stored(pages_, Kind::pagemap_shmem, 3), "0s ");
  EXPECT_TRUE(std::filesystem::exists(images_.path() + "/inventory.img"));
  EXPECT_FALSE(std::filesystem::exists(images_.path() + "/layout-mm-12"));
}

TEST_P(CriuSinkTest, pages_that_are_not_there_any_more_are_no_dump) {
  Server server(pages_.fd());
  {
    CriuStream sink(client(server), images_.fd());
    emit(sink, task, {{page(16), 2}}, "ab");
    sink.file("inventory.img", "I");
    const PageSet pages = set({{page(16), 1}});
    EXPECT_THROW(sink.save({{task, &pages}}, Storage::cached), Error);
  }
  EXPECT_FALSE(server.stored_everything());
  EXPECT_FALSE(std::filesystem::exists(images_.path() + "/inventory.img"));
}

TEST_P(CriuSinkTest, a_difference_is_merged_with_what_the_parent_has) {
  const TestDir parent;
  {
    Server server(parent.fd());
    CriuStream sink(client(server), images_.fd());
    emit(sink, task, {{page(16), 4}}, "abcd");
    const PageSet pages = set({{page(16), 4}});
    sink.save({{task, &pages}}, Storage::cached);
    ASSERT_TRUE(server.stored_everything());
  }
  image::set_parent(pages_.fd(), parent.path());
  Server server(pages_.fd());
  CriuClient to_server = client(server);
  EXPECT_TRUE(to_server.parent_has(task));
  EXPECT_FALSE(to_server.parent_has(segment));
  CriuDifference sink(std::move(to_server), images_.fd());
  emit(sink, task, {{page(40), 1}}, "z");
  emit(sink, task, {{page(17), 1}}, "x");
  emit(sink, task, {{page(17), 1}}, "y");                                             // twice: the later one
  emit(sink, segment, {{0, 1}}, "s");                                                 // new: not in the parent
  const PageSet pages = set({{page(16), 3}, {page(40), 1}}), shared = set({{0, 1}});  // 19 is gone
  sink.save({{task, &pages}, {segment, &shared}}, Storage::cached);
  EXPECT_TRUE(server.stored_everything());
  EXPECT_EQ(stored(pages_), "16a 17y 18c 40z ");
  EXPECT_EQ(stored(pages_, Kind::pagemap_shmem, 3), "0s ");
}

TEST_P(CriuSinkTest, a_difference_may_be_larger_than_what_is_sent_at_once) {
  constexpr std::uint64_t frame = pagewire::max_payload / page_size, frames = 40;
  Server server(pages_.fd());
  CriuDifference sink(client(server), images_.fd());
  std::string expected;
  for (std::uint64_t i = 0; i < frames; i++) {
    const char letter = static_cast<char>('a' + i % 26);
    emit(sink, task, {{page(16 + i * frame), frame}}, std::string(frame, letter));
    for (std::uint64_t n = 0; n < frame; n++) expected += fmt::format("{}{} ", 16 + i * frame + n, letter);
  }
  const PageSet pages = set({{page(16), frames * frame}});
  sink.save({{task, &pages}}, Storage::cached);
  EXPECT_TRUE(server.stored_everything());
  EXPECT_EQ(stored(pages_), expected);
}

// CRIU's restore stops at a run of shared memory that goes beyond its mappings.
TEST_P(CriuSinkTest, runs_of_shared_memory_stay_cut_where_its_mappings_end) {
  image::ImageSet images;
  images.put(Kind::mm, 12, mapping_of_segment(page(1), page(3)));
  const auto save = [&](DumpSink& sink) {
    for (const auto& [name, bytes] : images.files()) sink.file(name, bytes);
    const PageSet shared = set({{0, 6}});
    sink.save({{segment, &shared}}, Storage::cached);
  };
  const auto runs = [](const TestDir& dir) {
    std::string text;
    const std::string name = image::file_name(Kind::pagemap_shmem, 3);
    for (const image::PageRun& r : image::read_pagemap(name, read_file(dir.path() + "/" + name)).runs)
      text += fmt::format("{}+{}{} ", r.vaddr / page_size, r.pages, r.is(image::PageFlag::parent) ? "p" : "");
    return text;
  };

  const TestDir parent;
  {
    Server server(parent.fd());
    CriuStream sink(client(server), images_.fd());
    emit(sink, segment, {{0, 3}}, "abc");  // as shared memory is read: cut already
    emit(sink, segment, {{page(3), 3}}, "def");
    save(sink);
    ASSERT_TRUE(server.stored_everything());
  }
  EXPECT_EQ(runs(parent), "0+3 3+3 ");
  image::set_parent(pages_.fd(), parent.path());
  Server server(pages_.fd());
  CriuDifference sink(client(server), images_.fd());
  emit(sink, segment, {{page(2), 2}}, "xy");
  save(sink);
  EXPECT_TRUE(server.stored_everything());
  EXPECT_EQ(runs(pages_), "0+2p 2+1 3+1 4+2p ");
  EXPECT_EQ(stored(pages_, Kind::pagemap_shmem, 3), "0a 1b 2x 3y 4e 5f ");
}

TEST_P(CriuSinkTest, a_difference_without_a_parent_at_the_server_is_refused) {
  Server server(pages_.fd());
  {
    CriuDifference sink(client(server), images_.fd());
    emit(sink, task, {{page(17), 1}}, "x");
    const PageSet pages = set({{page(16), 2}});
    try {
      sink.save({{task, &pages}}, Storage::cached);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::refused) << e.message();
    }
  }
  EXPECT_FALSE(server.stored_everything());
}

TEST_P(CriuSinkTest, a_server_that_hangs_up_is_an_error) {
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_STREAM);
  CriuStream sink(client(std::move(ours)), images_.fd());
  theirs.reset();
  try {
    emit(sink, task, {{page(16), 1}}, "a");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::peer_lost) << e.message();
  }
}

// A server answers a close when all that it has is on its disk, however slow that is; the rest must not take it long.
TEST_P(CriuSinkTest, a_server_may_take_its_time_to_answer_when_it_has_pages) {
  EXPECT_GE(ClientLimits{}.stored, std::chrono::hours(1));
  constexpr ClientLimits limits{.stall = std::chrono::milliseconds(100)};
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_STREAM);
  auto server = std::async(std::launch::async, [&] {
    const auto take = [&](std::size_t payload) {
      std::vector<std::byte> bytes(pagewire::criu::bytes_in(header()) + payload);
      read_exact(theirs.get(), bytes);
    };
    take(0);
    write_all(theirs.get(), std::string(1, '\0'));
    take(page_size);
    take(0);
    std::this_thread::sleep_for(5 * limits.stall);
    write_all(theirs.get(), std::string(4, '\0'));
  });
  CriuClient client = this->client(std::move(ours), limits);
  EXPECT_FALSE(client.open(task));
  const std::vector<std::byte> one(page_size);
  client.add_pages({.address = page_size, .pages = 1}, one);
  client.flush();
  client.close();
  server.get();
}

TEST_P(CriuSinkTest, a_server_that_never_answers_is_given_up) {
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_STREAM);
  CriuClient client = this->client(std::move(ours), {.stall = std::chrono::milliseconds(20)});
  try {
    client.close();
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::timed_out) << e.message();
  }
}

}  // namespace
}  // namespace godwit::engine
