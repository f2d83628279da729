// One TLS connection over TCP, as a handle that says nothing of how it is done.
//
// OpenSSL works on the non-blocking socket directly and Asio only waits for readiness: large reads and writes
// need no intermediate buffers (docs/page-protocol.md has the numbers).
//
// At most one read and one write at a time; both may be in flight together. Everything on the executor's thread.
// Buffers must outlive the operation. Destroying or closing the handle ends pending operations with
// Errc::cancelled. Failures: peer_lost, denied (certificates), protocol (not TLS), cancelled.
#pragma once

#include "common/net/address.h"
#include "common/net/async.h"
#include "common/net/tls.h"

#include <boost/asio/ip/tcp.hpp>

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace godwit::net {

using Bytes = std::span<const std::byte>;

class Connection {
 public:
  struct Impl;

  Connection() = default;
  explicit Connection(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  Connection(Connection&&) = default;
  Connection& operator=(Connection&& other) noexcept;
  ~Connection();

  explicit operator bool() const { return impl_ != nullptr; }

  // Whatever has arrived, at most `into`; 0 when the peer has said goodbye.
  awaitable<std::size_t> read_some(std::span<std::byte> into);
  awaitable<void> read_exact(std::span<std::byte> into);
  // Whether something arrives within the limit. For a reader that has just been given less than it asked for.
  awaitable<bool> readable_within(Clock::duration limit);

  // All pieces in order, packed into full TLS records.
  awaitable<void> write(std::vector<Bytes> pieces);
  awaitable<void> write(std::string_view text);

  // Says goodbye: the peer reads 0. Nothing may be written afterwards.
  awaitable<void> shutdown();
  void close();  // at once, both directions

  const Identity& peer() const;
  const std::string& address() const;  // the peer's host:port
  Executor executor() const;

  void fit_buffers();  // plain_socket.h

  // The same connection served by another thread's io_context. No operation may be in flight.
  Connection move_to(Executor executor) &&;

 private:
  std::shared_ptr<Impl> impl_;
};

// Resolves, connects, shakes hands. Errc::timed_out after `limit`.
awaitable<Connection> connect(Address address, TlsContext tls, Clock::duration limit);

// Shakes hands on an accepted or connected socket.
enum class Side { client = 1, server };
awaitable<Connection> handshake(asio::ip::tcp::socket socket, TlsContext tls, Side side);

}  // namespace godwit::net
