#include "common/net/listener.h"
#include "common/net/test_loop.h"
#include "common/net/within.h"
#include "tests/support/test_certs.h"

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace godwit::net {
namespace {

using namespace std::chrono_literals;
using tcp = asio::ip::tcp;

class ConnectionTest : public testing::Test {
 protected:
  test::TestCerts certs;
  asio::io_context io{1};
  TlsContext server_tls = TlsContext::load(certs.node("spiffe://godwit/agent/server"));
  TlsContext client_tls = TlsContext::load(certs.node("spiffe://godwit/agent/client"));

  Address at(const Listener& l) { return parse_address(to_string(l.endpoint())); }
};

awaitable<void> echo(Connection c) {
  std::vector<std::byte> buffer(100'000);
  while (const std::size_t n = co_await c.read_some(buffer)) {
    std::vector<Bytes> pieces{Bytes(buffer).first(n)};
    co_await c.write(std::move(pieces));
  }
  co_await c.shutdown();
}

awaitable<void> send_back(std::shared_ptr<Connection> c, std::vector<std::byte>& big) {
  // Pieces of all sizes, so that records are cut in every way.
  std::vector<Bytes> pieces;
  Bytes rest(big);
  for (std::size_t n = 1; !rest.empty(); n = n * 3 + 1) {
    const std::size_t take = std::min(n, rest.size());
    pieces.push_back(rest.first(take));
    rest = rest.subspan(take);
  }
  co_await c->write(std::move(pieces));
}

awaitable<void> exchange(Address address, TlsContext tls) {
  Connection dialled = co_await connect(address, tls, 5s);
  const auto c = std::make_shared<Connection>(std::move(dialled));
  EXPECT_EQ(c->peer(), (Identity{"agent", "server"}));
  std::vector<std::byte> big(5'000'000), back(big.size());
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<std::byte>(i * 7 + i / 251);
  spawn(co_await asio::this_coro::executor, "sender", send_back(c, big));
  co_await c->read_exact(back);
  EXPECT_TRUE(big == back);
  co_await c->shutdown();
  std::byte one{};
  EXPECT_EQ(co_await c->read_some({&one, 1}), 0u);
}

TEST_F(ConnectionTest, carries_bytes_both_ways_at_once_and_says_goodbye) {
  Listener listener(io.get_executor(), "test", {"127.0.0.1", "0"}, server_tls);
  Identity seen;
  listener.start([&](Connection c) {
    seen = c.peer();
    return echo(std::move(c));
  });
  run_to_end(io, exchange(at(listener), client_tls));
  EXPECT_EQ(seen, (Identity{"agent", "client"}));
}

awaitable<void> read_once(Address address, TlsContext tls) {
  Connection c = co_await connect(address, tls, 5s);
  std::byte one{};
  co_await c.read_exact({&one, 1});
}

TEST_F(ConnectionTest, refuses_a_certificate_of_another_authority_on_both_sides) {
  test::TestCerts other;
  const TlsContext stranger = TlsContext::load(other.node("spiffe://godwit/agent/client"));
  Listener listener(io.get_executor(), "test", {"127.0.0.1", "0"}, server_tls);
  int served = 0;
  listener.start([&](Connection c) {
    ++served;
    return echo(std::move(c));
  });
  const auto expect_denied = [](Address a, TlsContext t) -> awaitable<void> {
    EXPECT_EQ(co_await code_of(read_once(a, t)), Errc::denied);
  };
  run_to_end(io, expect_denied(at(listener), stranger));
  EXPECT_EQ(served, 0);
}

awaitable<void> speak_plainly(Address address) {
  tcp::socket socket(co_await asio::this_coro::executor);
  const std::vector<tcp::endpoint> ends = co_await resolve(address);
  co_await socket.async_connect(ends.front(), asio::use_awaitable);
  const std::string_view text = "GET / HTTP/1.0\r\n\r\n";
  socket.send(asio::buffer(text));
  std::array<char, 100> answer;
  boost::system::error_code ec;
  while (!ec) co_await socket.async_read_some(asio::buffer(answer), asio::redirect_error(asio::use_awaitable, ec));
}

TEST_F(ConnectionTest, does_not_serve_what_is_not_tls) {
  Listener listener(io.get_executor(), "test", {"127.0.0.1", "0"}, server_tls);
  int served = 0;
  listener.start([&](Connection c) {
    ++served;
    return echo(std::move(c));
  });
  run_to_end(io, speak_plainly(at(listener)));
  EXPECT_EQ(served, 0);
}

awaitable<void> flood(Address address, TlsContext tls) {
  std::vector<tcp::socket> idle;
  const std::vector<tcp::endpoint> ends = co_await resolve(address);
  for (int i = 0; i < 50; ++i) {
    idle.emplace_back(co_await asio::this_coro::executor);
    co_await idle.back().async_connect(ends.front(), asio::use_awaitable);
  }
  co_await exchange(address, tls);
}

TEST_F(ConnectionTest, gets_through_a_flood_of_clients_that_say_nothing) {
  Listener listener(io.get_executor(), "test", {"127.0.0.1", "0"}, server_tls, {.handshakes = 4});
  listener.start([](Connection c) { return echo(std::move(c)); });
  run_to_end(io, flood(at(listener), client_tls));
}

using Silent = std::vector<std::shared_ptr<Connection>>;

awaitable<void> connect_silently(Address address, TlsContext tls, int count, Silent& silent) {
  for (int i = 0; i < count; ++i) {
    Connection made = co_await connect(address, tls, 5s);
    silent.push_back(std::make_shared<Connection>(std::move(made)));
  }
}

awaitable<void> expect_turned_away(Address address, TlsContext tls) {
  EXPECT_EQ(co_await code_of(exchange(address, tls)), Errc::peer_lost);
}

TEST_F(ConnectionTest, turns_away_the_newest_or_pushes_out_the_oldest_of_those_that_are_served) {
  Listener full(io.get_executor(), "test", {"127.0.0.1", "0"}, server_tls, {.connections = 4});
  full.start([](Connection c) { return echo(std::move(c)); });
  Silent first;
  run_to_end(io, connect_silently(at(full), client_tls, 4, first));
  run_to_end(io, expect_turned_away(at(full), client_tls));
  Listener fair(io.get_executor(), "test", {"127.0.0.1", "0"}, server_tls,
                {.connections = 4, .overload = Overload::oldest_gives_way});
  fair.start([](Connection c) { return echo(std::move(c)); });
  Silent silent;
  run_to_end(io, connect_silently(at(fair), client_tls, 20, silent));
  run_to_end(io, exchange(at(fair), client_tls));
}

// Takes a moment to go when it is told to.
awaitable<void> linger(Connection c, int& told) {
  std::byte one{};
  const Errc code = co_await code_of(c.read_exact({&one, 1}));
  if (code != Errc::cancelled) co_return;
  told++;
  co_await asio::this_coro::reset_cancellation_state(asio::disable_cancellation());
  co_await sleep_for(500ms);
}

TEST_F(ConnectionTest, pushes_out_one_for_each_that_comes_also_while_they_take_a_moment_to_go) {
  int told = 0;
  Listener listener(io.get_executor(), "test", {"127.0.0.1", "0"}, server_tls,
                    {.connections = 3, .overload = Overload::oldest_gives_way});
  listener.start([&told](Connection c) { return linger(std::move(c), told); });
  Silent silent;
  run_to_end(io, connect_silently(at(listener), client_tls, 6, silent));
  run_to_end(io, sleep_for(100ms));  // the server is done with a handshake after its client
  EXPECT_EQ(told, 3);
}

awaitable<void> wait_for_eviction(Address address) {
  tcp::socket socket(co_await asio::this_coro::executor);
  const std::vector<tcp::endpoint> ends = co_await resolve(address);
  co_await socket.async_connect(ends.front(), asio::use_awaitable);
  std::array<char, 1> answer;
  boost::system::error_code ec;
  co_await socket.async_read_some(asio::buffer(answer), asio::redirect_error(asio::use_awaitable, ec));
  EXPECT_TRUE(ec);
}

TEST_F(ConnectionTest, drops_a_client_that_does_not_finish_its_handshake) {
  Listener listener(io.get_executor(), "test", {"127.0.0.1", "0"}, server_tls, {.handshake_limit = 50ms});
  listener.start([](Connection c) { return echo(std::move(c)); });
  const auto start = Clock::now();
  run_to_end(io, wait_for_eviction(at(listener)));
  EXPECT_LT(Clock::now() - start, 5s);
}

TEST_F(ConnectionTest, tells_a_closed_port_from_a_silent_one) {
  tcp::acceptor silent(io, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const auto refused = [](TlsContext t) -> awaitable<void> {
    EXPECT_EQ(co_await code_of(read_once({"127.0.0.1", "1"}, t)), Errc::peer_lost);
    EXPECT_EQ(co_await code_of(read_once({"fe80::1", "1"}, t)), Errc::peer_lost);  // no way there: EINVAL
  };
  run_to_end(io, refused(client_tls));
  const auto dial = [](Address a, TlsContext t) -> awaitable<void> {
    const Connection c = co_await connect(a, t, 50ms);
  };
  const auto late = [dial](Address a, TlsContext t) -> awaitable<void> {
    EXPECT_EQ(co_await code_of(dial(a, t)), Errc::timed_out);
  };
  run_to_end(io, late(parse_address(to_string(silent.local_endpoint())), client_tls));
}

TEST_F(ConnectionTest, moves_to_another_io_context) {
  asio::io_context second(1);
  Listener listener(io.get_executor(), "test", {"127.0.0.1", "0"}, server_tls);
  auto work = asio::make_work_guard(second);
  std::thread thread([&] { second.run(); });
  listener.start([&](Connection c) -> awaitable<void> {
    spawn(second.get_executor(), "echo", echo(std::move(c).move_to(second.get_executor())));
    co_return;
  });
  run_to_end(io, exchange(at(listener), client_tls));
  work.reset();
  thread.join();
}

TEST(TlsContext, names_the_file_that_is_missing) {
  EXPECT_THAT([] { TlsContext::load("/nonexistent"); },
              testing::Throws<Error>(testing::Property(&Error::message, testing::HasSubstr("/nonexistent/ca.crt"))));
}

}  // namespace
}  // namespace godwit::net
