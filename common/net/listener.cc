#include "common/net/listener.h"

#include "common/base/log.h"
#include "common/net/within.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <list>

namespace godwit::net {

using tcp = asio::ip::tcp;

struct Listener::State {
  std::string name;
  tcp::acceptor acceptor;
  TlsContext tls;
  ListenerOptions options;
  Serve serve;
  std::list<asio::cancellation_signal> handshakes, served;  // oldest first, but for those told to go

  State(Executor executor, std::string n, TlsContext t, ListenerOptions o)
      : name(std::move(n)), acceptor(executor), tls(std::move(t)), options(o) {}
};

namespace {

using Shared = std::shared_ptr<Listener::State>;
using Place = std::list<asio::cancellation_signal>::iterator;

constexpr auto pause_when_out_of_files = std::chrono::milliseconds(100);

// Tells the one that is there longest to go, which takes it a moment. The next time it is another one's turn: who was
// told and is still there makes no room.
void push_out_oldest(std::list<asio::cancellation_signal>& all) {
  all.splice(all.end(), all, all.begin());
  all.back().emit(asio::cancellation_type::terminal);
}

void log_refusal(const Shared& s, std::exception_ptr problem) {
  const Error e = to_error(problem);
  log::warn(s->name + ".handshake_failed", {{"code", name(e.errc())}, {"message", e.message()}});
}

awaitable<void> serve_one(Shared s, Connection connection) { co_await s->serve(std::move(connection)); }

void start_serving(const Shared& s, Connection connection) {
  if (s->served.size() >= s->options.connections) {
    log::warn(s->name + ".too_many_connections", {{"peer", connection.address()}, {"limit", s->options.connections}});
    if (s->options.overload == Overload::newest_turned_away) return;
    push_out_oldest(s->served);
  }
  const Place place = s->served.emplace(s->served.end());
  auto ended = [s, place](std::exception_ptr problem) {
    s->served.erase(place);
    if (!problem) return;
    const Error e = to_error(problem);
    if (e.errc() == Errc::cancelled) return;
    log::error(s->name + ".failed", {{"code", name(e.errc())}, {"message", e.message()}});
  };
  asio::co_spawn(s->acceptor.get_executor(), serve_one(s, std::move(connection)),
                 asio::bind_cancellation_slot(place->slot(), std::move(ended)));
}

awaitable<void> greet(Shared s, tcp::socket socket) {
  awaitable<Connection> hello = handshake(std::move(socket), s->tls, Side::server);
  Connection connection = co_await within(s->options.handshake_limit, "TLS handshake", std::move(hello));
  start_serving(s, std::move(connection));
}

awaitable<void> accept_all(Shared s) {
  while (s->acceptor.is_open()) {
    auto [ec, socket] = co_await s->acceptor.async_accept(asio::as_tuple(asio::use_awaitable));
    if (ec == asio::error::operation_aborted) co_return;
    if (ec) {  // EMFILE and its kin pass; a peer that has gone again is no concern
      log::warn(s->name + ".accept_failed", {{"message", ec.message()}});
      co_await sleep_for(pause_when_out_of_files);
      continue;
    }
    if (s->handshakes.size() >= s->options.handshakes) push_out_oldest(s->handshakes);
    const Place place = s->handshakes.emplace(s->handshakes.end());
    auto ended = [s, place](std::exception_ptr problem) {
      s->handshakes.erase(place);
      if (problem) log_refusal(s, problem);
    };
    asio::co_spawn(s->acceptor.get_executor(), greet(s, std::move(socket)),
                   asio::bind_cancellation_slot(place->slot(), std::move(ended)));
  }
}

}  // namespace

Listener::Listener(Executor executor, std::string name, const Address& address, TlsContext tls, ListenerOptions options)
    : state_(std::make_shared<State>(executor, std::move(name), std::move(tls), options)) {
  const std::string what = "listen on " + to_string(address);
  boost::system::error_code ec;
  tcp::resolver resolver(executor);
  const auto found = resolver.resolve(address.host, address.port, tcp::resolver::passive, ec);
  if (ec) throw to_error(ec, what);
  const tcp::endpoint end = found.begin()->endpoint();
  tcp::acceptor& acceptor = state_->acceptor;
  acceptor.open(end.protocol(), ec);
  if (!ec) acceptor.set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) acceptor.bind(end, ec);
  if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
  if (ec) throw to_error(ec, what);
}

Listener::~Listener() { close(); }

tcp::endpoint Listener::endpoint() const { return state_->acceptor.local_endpoint(); }

void Listener::start(Serve serve) {
  state_->serve = std::move(serve);
  spawn(state_->acceptor.get_executor(), state_->name, accept_all(state_));
}

void Listener::close() {
  boost::system::error_code ignored;
  state_->acceptor.close(ignored);
}

}  // namespace godwit::net
