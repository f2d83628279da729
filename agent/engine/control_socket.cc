#include "agent/engine/control_socket.h"

#include "common/base/check.h"
#include "common/base/passed_fds.h"

#include <poll.h>
#include <sys/socket.h>

namespace godwit::engine {
namespace {

constexpr std::size_t largest_packet = 1u << 20;

}  // namespace

ControlSocket::ControlSocket(UniqueFd socket) : socket_(std::move(socket)), packet_(largest_packet) {}

std::optional<Received> ControlSocket::receive(std::chrono::milliseconds limit) {
  pollfd ready{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  const int n = ::poll(&ready, 1, static_cast<int>(limit.count()));
  if (n == 0 || (n < 0 && errno == EINTR)) return std::nullopt;
  check(n, "wait for the agent");
  iovec part{packet_.data(), packet_.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  PassedFds passed;
  const ssize_t got = passed.receive(socket_.get(), message, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  if (check(got, "hear from the agent") == 0) fail(Errc::peer_lost, "the agent has gone");
  Received received;
  received.fds = PassedFds::take(message);
  if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) fail(Errc::protocol, "a command that is too long");
  if (!received.command.ParseFromArray(packet_.data(), static_cast<int>(got)))
    fail(Errc::protocol, "a command that cannot be read");
  return received;
}

void ControlSocket::send(const Event& event) {
  const std::string bytes = event.SerializeAsString();
  if (::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) >= 0) return;
  if (errno == EPIPE || errno == ECONNRESET) fail(Errc::peer_lost, "the agent has gone");
  check(-1, "tell the agent");
}

}  // namespace godwit::engine
