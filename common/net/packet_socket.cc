#include "common/net/packet_socket.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <sys/socket.h>

namespace godwit::net {

struct PacketSocket::Impl {
  asio::posix::stream_descriptor socket;
  std::string buffer = std::string(max_packet, '\0');
  Impl(Executor executor, UniqueFd fd) : socket(std::move(executor), fd.release()) { socket.non_blocking(true); }
};

namespace {

using Shared = std::shared_ptr<PacketSocket::Impl>;
using Descriptor = asio::posix::stream_descriptor;

awaitable<void> wait(Shared s, Descriptor::wait_type what) {
  const auto [ec] = co_await s->socket.async_wait(what, asio::as_tuple(asio::use_awaitable));
  if (ec) throw to_error(ec, "control socket");
}

awaitable<std::optional<Packet>> receive_on(Shared s) {
  for (;;) {
    if (!s->socket.is_open()) fail(Errc::cancelled, "the control socket has been closed");
    iovec data{s->buffer.data(), s->buffer.size()};
    msghdr message{.msg_iov = &data, .msg_iovlen = 1};
    PassedFds passed;
    const ssize_t n = passed.receive(s->socket.native_handle(), message);
    if (n < 0 && errno == EAGAIN) {
      co_await wait(s, Descriptor::wait_read);
      continue;
    }
    if (n == 0) co_return std::nullopt;
    check(n, "receive on the control socket");
    Packet packet{.bytes = {}, .fds = PassedFds::take(message)};
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) fail(Errc::protocol, "a control message is too long");
    packet.bytes.assign(s->buffer.data(), static_cast<std::size_t>(n));
    co_return packet;
  }
}

awaitable<void> send_on(Shared s, Packet packet) {
  if (packet.bytes.empty() || packet.bytes.size() > max_packet || packet.fds.size() > max_packet_fds)
    fail(Errc::internal, "a control message of {} bytes, {} descriptors", packet.bytes.size(), packet.fds.size());
  std::vector<int> fds;
  for (const UniqueFd& fd : packet.fds) fds.push_back(fd.get());
  for (;;) {
    if (!s->socket.is_open()) fail(Errc::cancelled, "the control socket has been closed");
    iovec data{packet.bytes.data(), packet.bytes.size()};
    msghdr message{.msg_iov = &data, .msg_iovlen = 1};
    PassedFds passed;
    passed.attach(message, fds);
    const ssize_t n = ::sendmsg(s->socket.native_handle(), &message, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) {
      co_await wait(s, Descriptor::wait_write);
      continue;
    }
    check(n, "send on the control socket");
    co_return;
  }
}

}  // namespace

PacketSocket::PacketSocket(Executor executor, UniqueFd socket)
    : impl_(std::make_shared<Impl>(std::move(executor), std::move(socket))) {}
PacketSocket::~PacketSocket() { close(); }

awaitable<std::optional<Packet>> PacketSocket::receive() { return receive_on(impl_); }
awaitable<void> PacketSocket::send(Packet packet) { return send_on(impl_, std::move(packet)); }

void PacketSocket::close() {
  if (!impl_) return;
  boost::system::error_code ignored;
  impl_->socket.close(ignored);
}

}  // namespace godwit::net
