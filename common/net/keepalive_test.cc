// A host that has gone says nothing. How long it takes until that is noticed, by what the kernel was told.
#include "common/net/listener.h"
#include "common/net/plain_socket.h"
#include "common/net/test_loop.h"
#include "tests/support/test_certs.h"

#include <boost/asio/use_awaitable.hpp>
#include <gtest/gtest.h>

#include <netinet/tcp.h>
#include <sys/socket.h>

namespace godwit::net {
namespace {

using namespace std::chrono_literals;
using tcp = asio::ip::tcp;

int option(int socket, int level, int name) {
  int value = 0;
  socklen_t length = sizeof value;
  check(::getsockopt(socket, level, name, &value, &length), "ask for an option");
  return value;
}

std::chrono::seconds noticed_after(int socket) {
  if (option(socket, SOL_SOCKET, SO_KEEPALIVE) == 0) return std::chrono::seconds::max();
  const int idle = option(socket, IPPROTO_TCP, TCP_KEEPIDLE), again = option(socket, IPPROTO_TCP, TCP_KEEPINTVL);
  return std::chrono::seconds(idle + again * option(socket, IPPROTO_TCP, TCP_KEEPCNT));
}

TEST(Keepalive, notices_within_a_minute_that_the_host_of_a_page_server_has_gone) {
  const UniqueFd listener = listen_on("127.0.0.1", 0, 1);
  const std::string address = local_address(listener.get());
  const auto port = static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
  EXPECT_LE(noticed_after(dial("127.0.0.1", port, 5s).get()), 60s);
}

// handshake() makes both sides of every connection.
awaitable<void> shake_hands(tcp::endpoint server, TlsContext tls, std::chrono::seconds& noticed) {
  tcp::socket socket(co_await asio::this_coro::executor);
  co_await socket.async_connect(server, asio::use_awaitable);
  const UniqueFd same(check(::dup(socket.native_handle()), "duplicate a socket"));
  Connection connection = co_await handshake(std::move(socket), tls, Side::client);
  noticed = noticed_after(same.get());
  co_await connection.shutdown();
}

TEST(Keepalive, notices_within_half_a_minute_that_a_peers_host_has_gone) {
  test::TestCerts certs;
  asio::io_context io{1};
  Listener listener(io.get_executor(), "test", {"127.0.0.1", "0"},
                    TlsContext::load(certs.node("spiffe://godwit/agent/server")));
  listener.start([](Connection c) { return c.shutdown(); });
  std::chrono::seconds noticed{};
  run_to_end(io,
             shake_hands(listener.endpoint(), TlsContext::load(certs.node("spiffe://godwit/agent/client")), noticed));
  EXPECT_LE(noticed, 30s);
}

}  // namespace
}  // namespace godwit::net
