#include "agent/jobs/packet_link.h"

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include <sys/socket.h>

namespace godwit::jobs {
namespace {

using namespace std::chrono_literals;

TEST(PacketLink, carries_the_longest_packet) {
  boost::asio::io_context io;
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  std::size_t came = 0;
  const auto receiver = PacketLink::start(io.get_executor(), std::move(theirs),
                                          {.arrived = [&](net::Packet p) { came = p.bytes.size(); }});
  const auto sender = PacketLink::start(io.get_executor(), std::move(ours), {});
  sender->post(std::string(net::max_packet, 'x'));
  const auto end = Clock::now() + 2s;
  while (came == 0 && Clock::now() < end) io.run_one_for(10ms);
  EXPECT_EQ(came, net::max_packet);
  sender->close();
  receiver->close();
  io.run_for(100ms);
}

TEST(PacketLink, that_cannot_send_is_closed) {
  boost::asio::io_context io;
  auto [ours, theirs] = make_socketpair(AF_UNIX, SOCK_SEQPACKET);
  bool closed = false;
  const auto sender = PacketLink::start(io.get_executor(), std::move(ours), {.closed = [&] { closed = true; }});
  std::vector<UniqueFd> fds;
  fds.emplace_back(100'000);  // of nothing
  sender->post("x", std::move(fds));
  const auto end = Clock::now() + 2s;
  while (!closed && Clock::now() < end) io.run_one_for(10ms);
  EXPECT_TRUE(closed);
  sender->close();
  io.run_for(100ms);
}

}  // namespace
}  // namespace godwit::jobs
