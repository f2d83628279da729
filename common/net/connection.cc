#include "common/net/connection.h"

#include "common/net/openssl.h"
#include "common/net/pacing.h"
#include "common/net/plain_socket.h"
#include "common/net/within.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <tuple>

#include <netinet/tcp.h>

namespace godwit::net {

using tcp = asio::ip::tcp;

namespace {

constexpr std::size_t record = 16 * 1024;  // the largest plaintext of one TLS record
constexpr std::size_t turn = 1024 * 1024;  // bytes one connection may move before others get a turn

struct FreeSsl {
  void operator()(SSL* ssl) const { SSL_free(ssl); }
};

}  // namespace

struct Connection::Impl {
  tcp::socket socket;
  std::unique_ptr<SSL, FreeSsl> ssl;
  Identity peer;
  std::string address;
  std::size_t moved = 0;  // since the last turn of others
  bool reading = false, writing = false, said_goodbye = false;
  std::exception_ptr broken;              // met while bytes were being handed out; told by the next read
  std::array<std::byte, record> staging;  // where small pieces become one record

  explicit Impl(tcp::socket s) : socket(std::move(s)) {}
};

namespace {

using Shared = std::shared_ptr<Connection::Impl>;

// Marks one direction as taken, for as long as an operation runs.
class Turn {
 public:
  Turn(bool& taken, const char* what) : taken_(taken) {
    if (taken_) fail(Errc::internal, "two {} at a time on one connection", what);
    taken_ = true;
  }
  ~Turn() { taken_ = false; }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  bool& taken_;
};

std::string peer_text(const tcp::socket& socket) {
  boost::system::error_code ec;
  const tcp::endpoint end = socket.remote_endpoint(ec);
  if (ec) return "unknown";
  return to_string(Address{end.address().to_string(), std::to_string(end.port())});
}

awaitable<void> wait_for(Shared c, int why, const char* what) {
  const auto direction = why == SSL_ERROR_WANT_READ ? tcp::socket::wait_read : tcp::socket::wait_write;
  c->moved = 0;
  const auto [ec] = co_await c->socket.async_wait(direction, asio::as_tuple(asio::use_awaitable));
  if (ec) throw to_error(ec, fmt::format("{} {}", what, c->address));
}

// Deals with an SSL_* call that did not succeed: waits when that helps, throws when it does not.
awaitable<void> go_on(Shared c, int result, int error_number, const char* what) {
  const int why = SSL_get_error(c->ssl.get(), result);
  if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
    throw tls_error(c->ssl.get(), why, error_number, fmt::format("{} {}", what, c->address));
  co_await wait_for(c, why, what);
}

void need_open(const Shared& c) {
  if (!c || !c->socket.is_open()) fail(Errc::cancelled, "the connection has been closed");
}

awaitable<void> others(Shared c, std::size_t n) {
  c->moved += n;
  if (c->moved < turn) co_return;
  c->moved = 0;
  co_await asio::post(c->socket.get_executor(), asio::use_awaitable);
}

awaitable<std::size_t> read_some_of(Shared c, std::span<std::byte> into) {
  need_open(c);
  Turn mine(c->reading, "reads");
  if (c->broken) std::rethrow_exception(c->broken);
  std::size_t total = 0;
  while (total == 0) {
    int result = 1, error_number = 0;
    while (total < into.size()) {
      std::size_t n = 0;
      forget_errors();
      errno = 0;
      result = SSL_read_ex(c->ssl.get(), into.data() + total, into.size() - total, &n);
      error_number = errno;
      if (result != 1) break;
      total += n;
    }
    const int why = result == 1 ? SSL_ERROR_NONE : SSL_get_error(c->ssl.get(), result);
    if (total > 0) {
      if (why == SSL_ERROR_SSL || why == SSL_ERROR_SYSCALL)
        c->broken = std::make_exception_ptr(tls_error(c->ssl.get(), why, error_number, "read from " + c->address));
      break;
    }
    if (why == SSL_ERROR_ZERO_RETURN) co_return 0;
    co_await go_on(c, result, error_number, "read from");
    need_open(c);
  }
  co_await others(c, total);
  co_return total;
}

awaitable<boost::system::error_code> arrival(Shared c) {
  const auto [ec] = co_await c->socket.async_wait(tcp::socket::wait_read, asio::as_tuple(asio::use_awaitable));
  co_return ec;
}

// The reactor may tell late of bytes that have been read since.
bool has_bytes(const Shared& c) {
  char byte;
  return ::recv(c->socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

awaitable<bool> readable_of(Shared c, Clock::duration limit) {
  using namespace asio::experimental::awaitable_operators;
  Turn mine(c->reading, "reads");
  const auto deadline = Clock::now() + limit;
  for (;;) {
    need_open(c);
    c->moved = 0;
    const auto first = co_await (arrival(c) || detail::expired(deadline - Clock::now()));
    if (first.index() == 1) co_return false;
    if (const auto ec = std::get<0>(first)) throw to_error(ec, "read from " + c->address);
    if (has_bytes(c)) co_return true;
  }
}

awaitable<void> write_piece(Shared c, Bytes data) {
  while (!data.empty()) {
    need_open(c);
    std::size_t n = 0;
    forget_errors();
    errno = 0;
    const int result = SSL_write_ex(c->ssl.get(), data.data(), data.size(), &n);
    const int error_number = errno;
    if (result == 1) {
      data = data.subspan(n);
      c->moved += n;
      continue;
    }
    co_await go_on(c, result, error_number, "write to");
  }
}

// What the BIO has gathered goes out.
awaitable<void> flush(Shared c) {
  for (;;) {
    need_open(c);
    forget_errors();
    errno = 0;
    BIO* bio = SSL_get_wbio(c->ssl.get());
    const int result = BIO_flush(bio);
    const int error_number = errno;
    if (result > 0) co_return;
    if (!BIO_should_retry(bio))
      throw tls_error(c->ssl.get(), SSL_ERROR_SYSCALL, error_number, "write to " + c->address);
    co_await wait_for(c, SSL_ERROR_WANT_WRITE, "write to");
  }
}

awaitable<void> write_of(Shared c, std::vector<Bytes> pieces) {
  need_open(c);
  Turn mine(c->writing, "writes");
  std::size_t staged = 0;
  for (Bytes piece : pieces) {
    while (!piece.empty()) {
      if (staged == 0 && piece.size() >= record) {
        const std::size_t whole = piece.size() / record * record;
        co_await write_piece(c, piece.first(whole));
        piece = piece.subspan(whole);
        continue;
      }
      const std::size_t n = std::min(piece.size(), record - staged);
      std::memcpy(c->staging.data() + staged, piece.data(), n);
      staged += n;
      piece = piece.subspan(n);
      if (staged < record) continue;
      co_await write_piece(c, c->staging);
      staged = 0;
    }
  }
  if (staged > 0) co_await write_piece(c, Bytes(c->staging).first(staged));
  co_await flush(c);
  co_await others(c, 0);
}

}  // namespace

Connection& Connection::operator=(Connection&& other) noexcept {
  if (this != &other) {
    close();
    impl_ = std::move(other.impl_);
  }
  return *this;
}

Connection::~Connection() { close(); }

awaitable<bool> Connection::readable_within(Clock::duration limit) { return readable_of(impl_, limit); }
awaitable<std::size_t> Connection::read_some(std::span<std::byte> into) { return read_some_of(impl_, into); }

namespace {

awaitable<void> read_exact_of(Shared c, std::span<std::byte> into) {
  while (!into.empty()) {
    const std::size_t n = co_await read_some_of(c, into);
    if (n == 0) fail(Errc::peer_lost, "read from {}: the peer closed the connection", c->address);
    into = into.subspan(n);
  }
}

awaitable<void> write_text(Shared c, std::string_view text) {
  std::vector<Bytes> pieces{std::as_bytes(std::span(text))};
  co_await write_of(c, std::move(pieces));
}

awaitable<void> shutdown_of(Shared c) {
  need_open(c);
  if (c->said_goodbye) co_return;
  c->said_goodbye = true;
  for (;;) {
    forget_errors();
    errno = 0;
    const int result = SSL_shutdown(c->ssl.get());
    const int error_number = errno;
    if (result >= 0) break;
    co_await go_on(c, result, error_number, "say goodbye to");
    need_open(c);
  }
  co_await flush(c);
  boost::system::error_code ignored;
  c->socket.shutdown(tcp::socket::shutdown_send, ignored);
}

}  // namespace

awaitable<void> Connection::read_exact(std::span<std::byte> into) { return read_exact_of(impl_, into); }
awaitable<void> Connection::write(std::vector<Bytes> pieces) { return write_of(impl_, std::move(pieces)); }
awaitable<void> Connection::write(std::string_view text) { return write_text(impl_, text); }
awaitable<void> Connection::shutdown() { return shutdown_of(impl_); }

void Connection::close() {
  if (!impl_) return;
  boost::system::error_code ignored;
  impl_->socket.close(ignored);
}

const Identity& Connection::peer() const { return impl_->peer; }
const std::string& Connection::address() const { return impl_->address; }
Executor Connection::executor() const { return impl_->socket.get_executor(); }

void Connection::fit_buffers() { net::fit_buffers(impl_->socket.native_handle()); }

Connection Connection::move_to(Executor executor) && {
  const tcp protocol = impl_->socket.local_endpoint().protocol();
  impl_->socket = tcp::socket(executor, protocol, impl_->socket.release());
  impl_->socket.non_blocking(true);
  return std::move(*this);
}

namespace {

// A peer whose host has gone is noticed within half a minute, even when nothing is said. TCP_USER_TIMEOUT would also
// catch unanswered data, but takes a full receive window, which is how back-pressure looks, for a dead peer.
void set_options(tcp::socket& socket) {
  socket.non_blocking(true);
  boost::system::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const int fd = socket.native_handle();
  const auto set = [fd](int option, int value) { ::setsockopt(fd, IPPROTO_TCP, option, &value, sizeof value); };
  set(TCP_KEEPIDLE, 10);
  set(TCP_KEEPINTVL, 5);
  set(TCP_KEEPCNT, 4);
}

}  // namespace

awaitable<Connection> handshake(tcp::socket socket, TlsContext tls, Side side) {
  set_options(socket);
  auto c = std::make_shared<Connection::Impl>(std::move(socket));
  Connection owner(c);  // closes on failure
  c->address = peer_text(c->socket);
  c->ssl.reset(SSL_new(tls.native()));
  if (!c->ssl) fail(Errc::internal, "make a TLS session: {}", openssl_reason());
  BIO* bio = make_socket_bio(c->socket.native_handle());
  SSL_set_bio(c->ssl.get(), bio, bio);
  if (side == Side::client)
    SSL_set_connect_state(c->ssl.get());
  else
    SSL_set_accept_state(c->ssl.get());
  for (;;) {
    forget_errors();
    errno = 0;
    const int result = SSL_do_handshake(c->ssl.get());
    const int error_number = errno;
    if (result == 1) break;
    co_await go_on(c, result, error_number, "TLS handshake with");
    need_open(c);
  }
  const std::optional<Identity> peer = identity_of(SSL_get0_peer_certificate(c->ssl.get()));
  if (!peer) fail(Errc::denied, "the certificate of {} names no spiffe://godwit identity", c->address);
  c->peer = *peer;
  co_return std::move(owner);
}

namespace {

awaitable<boost::system::error_code> connect_to_one(tcp::socket& socket, const std::vector<tcp::endpoint>& ends) {
  boost::system::error_code refused = asio::error::host_not_found;
  for (const tcp::endpoint& end : ends) {
    socket.close();
    socket.open(end.protocol());
    begin_unpaced(socket.native_handle());
    std::tie(refused) = co_await socket.async_connect(end, asio::as_tuple(asio::use_awaitable));
    if (!refused) break;
  }
  co_return refused;
}

awaitable<Connection> dial(Address address, TlsContext tls) {
  const Executor executor = co_await asio::this_coro::executor;
  const std::string what = "connect to " + to_string(address);
  const std::vector<tcp::endpoint> ends = co_await resolve(address);
  tcp::socket socket(executor);
  if (const auto refused = co_await connect_to_one(socket, ends)) {
    // There is no way to it, whatever the kernel calls that (a prohibited route: EACCES; a black hole: EINVAL).
    const Error e = to_error(refused, what);
    const bool ours = refused.value() == EMFILE || refused.value() == ENFILE || refused.value() == ENOBUFS;
    if (e.errc() == Errc::internal && !ours) throw Error(Errc::peer_lost, e.message(), e.hint());
    throw e;
  }
  pace_if_far(socket.native_handle());
  co_return co_await handshake(std::move(socket), tls, Side::client);
}

}  // namespace

awaitable<Connection> connect(Address address, TlsContext tls, Clock::duration limit) {
  std::string what = "connect to " + to_string(address);
  return within(limit, std::move(what), dial(std::move(address), std::move(tls)));
}

}  // namespace godwit::net
