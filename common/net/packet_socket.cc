#include "common/net/packet_socket.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <array>
#include <cstring>

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

union ControlSpace {
  cmsghdr align;
  std::array<char, CMSG_SPACE(sizeof(int) * max_packet_fds)> bytes;
};

std::vector<UniqueFd> take_fds(msghdr& message) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

awaitable<void> wait(Shared s, Descriptor::wait_type what) {
  const auto [ec] = co_await s->socket.async_wait(what, asio::as_tuple(asio::use_awaitable));
  if (ec) throw to_error(ec, "control socket");
}

awaitable<std::optional<Packet>> receive_on(Shared s) {
  for (;;) {
    if (!s->socket.is_open()) fail(Errc::cancelled, "the control socket has been closed");
    ControlSpace control{};
    iovec data{s->buffer.data(), s->buffer.size()};
    msghdr message{
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes.data(), .msg_controllen = control.bytes.size()};
    const ssize_t n = ::recvmsg(s->socket.native_handle(), &message, MSG_CMSG_CLOEXEC);
    if (n < 0 && errno == EAGAIN) {
      co_await wait(s, Descriptor::wait_read);
      continue;
    }
    if (n == 0 || (n < 0 && errno == ECONNRESET)) co_return std::nullopt;
    check(n, "receive on the control socket");
    Packet packet{.bytes = {}, .fds = take_fds(message)};
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) fail(Errc::protocol, "a control message is too long");
    packet.bytes.assign(s->buffer.data(), static_cast<std::size_t>(n));
    co_return packet;
  }
}

awaitable<void> send_on(Shared s, Packet packet) {
  if (packet.bytes.empty() || packet.bytes.size() > max_packet || packet.fds.size() > max_packet_fds)
    fail(Errc::internal, "a control message of {} bytes, {} descriptors", packet.bytes.size(), packet.fds.size());
  for (;;) {
    if (!s->socket.is_open()) fail(Errc::cancelled, "the control socket has been closed");
    ControlSpace control{};
    iovec data{packet.bytes.data(), packet.bytes.size()};
    msghdr message{.msg_iov = &data, .msg_iovlen = 1};
    if (!packet.fds.empty()) {
      message.msg_control = control.bytes.data();
      message.msg_controllen = CMSG_SPACE(sizeof(int) * packet.fds.size());
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int) * packet.fds.size());
      for (std::size_t i = 0; i < packet.fds.size(); ++i) {
        const int fd = packet.fds[i].get();
        std::memcpy(CMSG_DATA(c) + i * sizeof fd, &fd, sizeof fd);
      }
    }
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
