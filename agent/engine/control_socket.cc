#include "agent/engine/control_socket.h"

#include "common/base/check.h"

#include <cstring>

#include <poll.h>
#include <sys/socket.h>

namespace godwit::engine {
namespace {

constexpr std::size_t largest_packet = 1u << 20;
constexpr std::size_t most_fds = 8;

}  // namespace

ControlSocket::ControlSocket(UniqueFd socket) : socket_(std::move(socket)), packet_(largest_packet) {}

std::optional<Received> ControlSocket::receive(std::chrono::milliseconds limit) {
  pollfd ready{.fd = socket_.get(), .events = POLLIN, .revents = 0};
  const int n = ::poll(&ready, 1, static_cast<int>(limit.count()));
  if (n == 0 || (n < 0 && errno == EINTR)) return std::nullopt;
  check(n, "wait for the agent");
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * most_fds)];
  iovec part{packet_.data(), packet_.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  if (got < 0 && errno != ECONNRESET) check(got, "hear from the agent");
  if (got <= 0) fail(Errc::peer_lost, "the agent has gone");
  Received received;
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; at + sizeof(int) <= head->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head) + at, sizeof fd);
      received.fds.emplace_back(fd);
    }
  }
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
