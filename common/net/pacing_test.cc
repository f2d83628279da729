// How TCP sends where BBR is the system's choice. Where the kernel has none, nothing is to be changed.
#include "common/net/pacing.h"

#include "common/net/plain_socket.h"

#include <gtest/gtest.h>

#include <array>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace godwit::net {
namespace {

using namespace std::chrono_literals;

std::string congestion_control(int socket) {
  std::array<char, 16> name{};
  socklen_t length = name.size();
  check(::getsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name.data(), &length), "ask for the congestion control");
  return name.data();
}

UniqueFd socket_with(const std::string& name) {
  UniqueFd socket(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "make a socket"));
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size()));
  return socket;
}

TEST(Pacing, is_off_when_a_socket_is_to_be_connected) {
  const UniqueFd socket = socket_with("bbr");
  begin_unpaced(socket.get());
  EXPECT_NE(congestion_control(socket.get()), "bbr");
}

TEST(Pacing, of_others_is_left_as_it_is) {
  const UniqueFd socket = socket_with("reno");
  begin_unpaced(socket.get());
  EXPECT_EQ(congestion_control(socket.get()), "reno");
}

TEST(Pacing, is_off_over_a_short_path) {
  const UniqueFd listener = listen_on("127.0.0.1", 0, 1);
  const std::string address = local_address(listener.get());
  const auto port = static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
  const UniqueFd ours = dial("127.0.0.1", port, 5s);
  EXPECT_TRUE(is_near(ours.get()));
  EXPECT_NE(congestion_control(ours.get()), "bbr");
}

// Without a round trip that was measured nobody is near.
TEST(Pacing, comes_back_over_a_long_path) {
  const UniqueFd fresh = socket_with("");
  const std::string chosen = congestion_control(fresh.get());
  begin_unpaced(fresh.get());
  pace_if_far(fresh.get());
  EXPECT_EQ(congestion_control(fresh.get()), chosen);
}

}  // namespace
}  // namespace godwit::net
