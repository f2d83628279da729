#include "common/net/packet_socket.h"
#include "common/net/test_loop.h"

#include <gtest/gtest.h>

#include <sys/socket.h>

namespace godwit::net {
namespace {

void run_between(awaitable<void> (*talk)(PacketSocket&, PacketSocket&)) {
  asio::io_context io(1);
  auto [one, two] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  PacketSocket a(io.get_executor(), std::move(one)), b(io.get_executor(), std::move(two));
  run_to_end(io, talk(a, b));
}

awaitable<void> pass_on(PacketSocket& a, PacketSocket& b) {
  auto [read_end, write_end] = make_pipe();
  Packet packet{.bytes = "hello", .fds = {}};
  packet.fds.push_back(std::move(write_end));
  co_await a.send(std::move(packet));
  Packet empty_handed{.bytes = std::string(100'000, 'x'), .fds = {}};
  co_await a.send(std::move(empty_handed));

  const auto first = co_await b.receive();
  EXPECT_EQ(first->bytes, "hello");
  write_all(first->fds.at(0).get(), "through the pipe");
  std::string text(16, '\0');
  read_exact(read_end.get(), std::as_writable_bytes(std::span(text)));
  EXPECT_EQ(text, "through the pipe");
  const auto second = co_await b.receive();
  EXPECT_EQ(second->bytes.size(), 100'000u);
  EXPECT_TRUE(second->fds.empty());
  a.close();
  EXPECT_FALSE(co_await b.receive());
}

TEST(PacketSocket, keeps_messages_and_their_descriptors_together) { run_between(pass_on); }

awaitable<void> leave_unread(PacketSocket& a, PacketSocket& b) {
  Packet unread{.bytes = "what now?", .fds = {}}, last{.bytes = "I cannot", .fds = {}};
  co_await b.send(std::move(unread));
  co_await a.send(std::move(last));
  a.close();
  EXPECT_EQ((co_await b.receive()).value().bytes, "I cannot");
  EXPECT_FALSE(co_await b.receive());
}

// As an engine does that fails while it is asked something else.
TEST(PacketSocket, tells_what_was_said_last_by_who_ended_without_having_read_all) { run_between(leave_unread); }

}  // namespace
}  // namespace godwit::net
