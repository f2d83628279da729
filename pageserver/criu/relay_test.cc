#include "pageserver/criu/relay.h"

#include "pageserver/criu/test_session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace godwit::pageserver::criu {
namespace {

using namespace pagewire::criu;

// A server that notes how what it is sent was cut, and answers whatever it is asked.
class Noting : public Stream {
 public:
  std::size_t receive(std::span<std::byte> into, net::Deadline deadline) override {
    answers_within.push_back(deadline - Clock::now());
    std::ranges::fill(into, std::byte{0});
    return into.size();
  }
  void send(std::span<const std::byte> data, net::Deadline) override { sent.emplace_back(data.begin(), data.end()); }
  void part(net::Deadline) noexcept override {}

  std::vector<std::vector<std::byte>> sent;
  std::vector<Clock::duration> answers_within;  // how long each was waited for
};

void put(pagewire::Ring& ring, std::span<const std::byte> pages) {
  std::ranges::copy(pages, ring.reserve(pages.size(), std::chrono::seconds(5)).begin());
  ring.commit(pages.size());
}

TEST(PageRelay, cuts_records_where_criu_does) {
  for (const HeaderSize size : {HeaderSize::until_4_1, HeaderSize::since_4_2}) {
    auto [engine, relays] = make_socketpair(AF_UNIX, SOCK_STREAM);
    net::adopt_stream(relays.get());
    pagewire::Ring ring(pagewire::make_ring());
    auto writer = std::async(std::launch::async, [&] {
      std::vector<std::byte> commands, pages;
      const auto add = [&](const Header& h, char content) {
        const EncodedHeader bytes = encode(size, h);
        commands.insert(commands.end(), bytes.span().begin(), bytes.span().end());
        pages.insert(pages.end(), h.payload_bytes(), static_cast<std::byte>(content));
      };
      add({.command = Command::open2, .object = task_12}, 0);
      add({.command = Command::add, .flags = run_present, .pages = 130, .address = 4096, .object = task_12}, 'a');
      add({.command = Command::add, .flags = run_parent, .pages = 9, .address = 1u << 20, .object = task_12}, 0);
      add({.command = Command::add, .flags = run_present, .pages = 1, .address = 1u << 21, .object = task_12}, 'b');
      add({.command = Command::close}, 0);
      // In pieces that have nothing to do with any boundary.
      write_all(engine.get(), commands);
      for (std::size_t at = 0; at < pages.size(); at += 70'001)
        put(ring, std::span(pages).subspan(at, std::min<std::size_t>(70'001, pages.size() - at)));
      std::array<std::byte, 5> answers{};
      read_exact(engine.get(), answers);
    });
    PlainStream from(std::move(relays));
    RingPages source(ring, from.fd());
    Noting server;
    relay(from, source, server, size);
    writer.get();

    std::vector<Header> headers;
    std::uint64_t left = 0, done = 0;
    for (const auto& record : server.sent) {
      if (left == 0) {
        ASSERT_EQ(record.size(), bytes_in(size)) << "a header stands alone";
        headers.push_back(decode(size, record));
        left = headers.back().payload_bytes();
        done = 0;
        continue;
      }
      ASSERT_LE(record.size(), left);
      ASSERT_LE(done % 65536 + record.size(), 65536u) << "a record lies across 64 KiB";
      done += record.size();
      left -= record.size();
    }
    EXPECT_EQ(left, 0u);
    EXPECT_EQ(headers.size(), 5u);
  }
}

// It opens the next object, or closes the session, when all that it has is on its disk.
TEST(PageRelay, a_server_may_take_its_time_to_answer_when_it_has_pages) {
  auto [engine, relays] = make_socketpair(AF_UNIX, SOCK_STREAM);
  net::adopt_stream(relays.get());
  pagewire::Ring ring(pagewire::make_ring());
  const auto send = [&](const Header& h) {
    write_all(engine.get(), encode(HeaderSize::since_4_2, h).span());
    if (h.has_payload()) put(ring, std::vector<std::byte>(h.payload_bytes()));
  };
  send({.command = Command::open2, .object = task_12});
  send({.command = Command::add, .flags = run_present, .pages = 1, .address = 4096, .object = task_12});
  for (const Command command : {Command::parent, Command::open2, Command::close})
    send({.command = command, .object = task_12});
  PlainStream from(std::move(relays));
  RingPages source(ring, from.fd());
  Noting server;
  relay(from, source, server, HeaderSize::since_4_2);
  ASSERT_EQ(server.answers_within.size(), 4u);
  for (const std::size_t looked_up : {0, 1}) EXPECT_LT(server.answers_within[looked_up], std::chrono::minutes(1));
  for (const std::size_t stored : {2, 3}) EXPECT_GT(server.answers_within[stored], std::chrono::minutes(30));
}

TEST(PageRelay, an_engine_that_goes_away_is_no_close) {
  for (const bool within_a_run : {false, true}) {
    auto [engine, relays] = make_socketpair(AF_UNIX, SOCK_STREAM);
    net::adopt_stream(relays.get());
    pagewire::Ring ring(pagewire::make_ring());
    const Header run{.command = Command::add, .flags = run_present, .pages = 2, .address = 4096, .object = task_12};
    if (within_a_run) {
      write_all(engine.get(), encode(HeaderSize::since_4_2, run).span());
      put(ring, std::vector<std::byte>(page_size));
    }
    engine.reset();
    PlainStream from(std::move(relays));
    RingPages source(ring, from.fd());
    Noting server;
    try {
      relay(from, source, server, HeaderSize::since_4_2);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.errc(), Errc::peer_lost) << e.message();
    }
  }
}

}  // namespace
}  // namespace godwit::pageserver::criu
