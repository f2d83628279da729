#include "agent/engine/resources/inet_socket.h"
#include "agent/engine/resources/round_trip.h"

#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <poll.h>

namespace godwit::engine::resources {
namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

template <class Address>
void bind_to(int fd, const Address& address) {
  check(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind");
}

template <class Address>
void connect_to(int fd, const Address& address) {
  check(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), "connect");
}

std::uint16_t free_port(int type) {
  const UniqueFd probe(check(::socket(AF_INET, type, 0), "socket"));
  bind_to(probe.get(), loopback(0));
  return inet_socket::local_address(probe.get()).port();
}

// A connection inside the child: 4 listens, 5 is the client's end, 6 the server's.
void make_connection(std::uint16_t port) {
  place(::socket(AF_INET, SOCK_STREAM, 0), 4);
  bind_to(4, loopback(port));
  check(::listen(4, 8), "listen");
  place(::socket(AF_INET, SOCK_STREAM, 0), 5);
  connect_to(5, loopback(port));
  place(::accept(4, nullptr, nullptr), 6);
}

TEST(TcpListener, listens_again_with_its_options) {
  const std::uint16_t port = free_port(SOCK_STREAM);
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::socket(AF_INET, SOCK_STREAM, 0), 4);
                      set_option(4, SOL_SOCKET, SO_KEEPALIVE, 1);
                      set_option(4, IPPROTO_TCP, TCP_NODELAY, 1);
                      set_option(4, IPPROTO_TCP, TCP_KEEPIDLE, 77);
                      set_option(4, SOL_SOCKET, SO_RCVBUF, 50'000);
                      set_option(4, IPPROTO_IP, IP_TOS, 0x10);
                      bind_to(4, loopback(port));
                      check(::listen(4, 37), "listen");
                      check(::fcntl(4, F_SETFL, O_NONBLOCK), "flags");
                    },
                    [&] {
                      tcp_info info{};
                      socklen_t size = sizeof info;
                      ::getsockopt(4, IPPROTO_TCP, TCP_INFO, &info, &size);
                      std::string wrong = differs("backlog", 37u, info.tcpi_sacked)
                                          << differs("nodelay", 1, get_option(4, IPPROTO_TCP, TCP_NODELAY));
                      wrong += differs("idle", 77, get_option(4, IPPROTO_TCP, TCP_KEEPIDLE));
                      wrong += differs("buffer", 100'000, get_option(4, SOL_SOCKET, SO_RCVBUF));
                      wrong += differs("tos", 0x10, get_option(4, IPPROTO_IP, IP_TOS));
                      wrong += differs("reuse", 0, get_option(4, SOL_SOCKET, SO_REUSEADDR));
                      wrong += differs("flags", O_RDWR | O_NONBLOCK, ::fcntl(4, F_GETFL));
                      place(::socket(AF_INET, SOCK_STREAM, 0), 9);
                      connect_to(9, loopback(port));
                      return wrong << differs("accepts", true, ::accept(4, nullptr, nullptr) >= 0);
                    }));
}

TEST(TcpListener, of_both_families_share_a_port_only_with_v6only) {
  const std::uint16_t port = free_port(SOCK_STREAM);
  EXPECT_EQ("", round_trip(
                    [&] {
                      sockaddr_in6 six{};
                      six.sin6_family = AF_INET6;
                      six.sin6_port = htons(port);
                      place(::socket(AF_INET6, SOCK_STREAM, 0), 4);
                      set_option(4, IPPROTO_IPV6, IPV6_V6ONLY, 1);
                      bind_to(4, six);
                      check(::listen(4, 1), "listen");
                      place(::socket(AF_INET, SOCK_STREAM, 0), 5);
                      bind_to(5, loopback(port));
                      check(::listen(5, 1), "listen");
                      place(::socket(AF_INET6, SOCK_STREAM, 0), 6);
                    },
                    [&] {
                      return differs("six", fmt::format("[::]:{}", port), inet_socket::local_address(4).text())
                             << differs("four", fmt::format("127.0.0.1:{}", port), inet_socket::local_address(5).text())
                             << differs("unbound", "[::]:0", inet_socket::local_address(6).text());
                    }));
}

TEST(TcpListener, shows_up_in_the_survey) {
  const std::uint16_t port = free_port(SOCK_STREAM);
  const StoppedChild child([&] {
    place(::socket(AF_INET, SOCK_STREAM, 0), 4);
    bind_to(4, loopback(port));
    check(::listen(4, 8), "listen");
  });
  EXPECT_THAT(survey_fds(child.pid(), {}).listening, ::testing::ElementsAre(fmt::format("tcp 127.0.0.1:{}", port)));
}

TEST(TcpEstablished, is_refused_with_both_addresses) {
  const std::uint16_t port = free_port(SOCK_STREAM);
  const StoppedChild child([&] { make_connection(port); });
  const std::vector<Refusal> refusals = survey_fds(child.pid(), {}).refusals;
  ASSERT_EQ(2u, refusals.size());
  EXPECT_THAT(refusals[1].what, ::testing::HasSubstr(fmt::format("127.0.0.1:{} <-> 127.0.0.1:", port)));
  EXPECT_THAT(refusals[1].hint, ::testing::HasSubstr("--tcp-close"));
  EXPECT_THROW(dump_table(child), Error);
}

TEST(TcpEstablished, is_found_reset_after_tcp_close) {
  const std::uint16_t port = free_port(SOCK_STREAM);
  EXPECT_EQ("", round_trip([&] { make_connection(port); },
                           [&] {
                             ::signal(SIGPIPE, SIG_IGN);
                             std::string wrong;
                             for (const int fd : {5, 6}) {
                               char byte = 0;
                               pollfd poll{fd, POLLIN | POLLOUT | POLLRDHUP, 0};
                               ::poll(&poll, 1, 0);
                               wrong += differs("poll", POLLIN | POLLOUT | POLLRDHUP | POLLERR | POLLHUP, poll.revents);
                               wrong += differs("first read", -1, ::read(fd, &byte, 1))
                                        << differs("errno", ECONNRESET, errno);
                               wrong += differs("then", 0, ::read(fd, &byte, 1))
                                        << differs("write", -1, ::write(fd, &byte, 1));
                               wrong += differs("errno", EPIPE, errno);
                             }
                             place(::socket(AF_INET, SOCK_STREAM, 0), 9);
                             connect_to(9, loopback(port));
                             return wrong << differs("listener accepts", true, ::accept(4, nullptr, nullptr) >= 0);
                           },
                           {.tcp_close = true}));
}

TEST(TcpEnded, stays_at_its_end) {
  const std::uint16_t port = free_port(SOCK_STREAM);
  EXPECT_EQ("", round_trip(
                    [&] {
                      make_connection(port);
                      const linger abort{1, 0};
                      check(::setsockopt(5, SOL_SOCKET, SO_LINGER, &abort, sizeof abort), "linger");
                      ::close(5);
                      char byte = 0;
                      check(::read(6, &byte, 1) == -1 && errno == ECONNRESET ? 0 : -1, "find the reset");
                    },
                    [&] {
                      char byte = 0;
                      return differs("end", 0, ::read(6, &byte, 1));
                    }));
}

TEST(Udp, keeps_address_peer_and_options) {
  const std::uint16_t port = free_port(SOCK_DGRAM);
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::socket(AF_INET, SOCK_DGRAM, 0), 4);
                      bind_to(4, loopback(port));
                      place(::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), 5);
                      set_option(5, SOL_SOCKET, SO_BROADCAST, 1);
                      connect_to(5, loopback(port));
                      place(::socket(AF_INET6, SOCK_DGRAM, 0), 6);
                    },
                    [&] {
                      ::write(5, "hello", 5);
                      return differs("received", "hello", now_or_never(4, 10))
                             << differs("broadcast", 1, get_option(5, SOL_SOCKET, SO_BROADCAST))
                             << differs("peer", fmt::format("127.0.0.1:{}", port), inet_socket::peer_address(5).text())
                             << differs("unbound", "[::]:0", inet_socket::local_address(6).text());
                    }));
}

TEST(Udp, in_a_multicast_group_is_refused) {
  const StoppedChild child([] {
    place(::socket(AF_INET, SOCK_DGRAM, 0), 4);
    ip_mreqn join{};
    join.imr_multiaddr.s_addr = htonl(0xe00000fb);
    join.imr_ifindex = 1;
    check(::setsockopt(4, IPPROTO_IP, IP_ADD_MEMBERSHIP, &join, sizeof join), "join");
    place(::socket(AF_INET, SOCK_DGRAM, 0), 5);
  });
  const std::vector<Refusal> refusals = survey_fds(child.pid(), {}).refusals;
  ASSERT_EQ(1u, refusals.size());
  EXPECT_THAT(refusals[0].reason, ::testing::HasSubstr("224.0.0.251"));
}

TEST(Sockets, of_unknown_families_are_refused_by_name) {
  const StoppedChild child([] {
    place(::socket(AF_NETLINK, SOCK_RAW, 0), 4);
    place(::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), 5);
  });
  const std::vector<Refusal> refusals = survey_fds(child.pid(), {}).refusals;
  ASSERT_EQ(2u, refusals.size());
  EXPECT_THAT(refusals[0].what, ::testing::HasSubstr("netlink"));
  EXPECT_THAT(refusals[1].what, ::testing::HasSubstr("IPv4 raw socket"));
}

}  // namespace
}  // namespace godwit::engine::resources
