#include "agent/engine/resources/unix_queue.h"

#include "agent/engine/resources/socket_options.h"

#include <array>
#include <cstring>
#include <memory>
#include <span>

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

namespace godwit::engine::resources {
namespace {

constexpr std::size_t longest_message = 4 << 20;  // far above what net.core.wmem_max allows
constexpr std::size_t most_messages = 65536;

// Where peeking begins; put back when done, since the owner may use it.
class PeekFromStart {
 public:
  explicit PeekFromStart(int fd) : fd_(fd), former_(get_option(fd, SOL_SOCKET, SO_PEEK_OFF)) {
    set_option(fd_, SOL_SOCKET, SO_PEEK_OFF, 0);
  }
  ~PeekFromStart() { ::setsockopt(fd_, SOL_SOCKET, SO_PEEK_OFF, &former_, sizeof former_); }
  PeekFromStart(const PeekFromStart&) = delete;
  PeekFromStart& operator=(const PeekFromStart&) = delete;

 private:
  int fd_;
  int former_;
};

// Peeking installs copies of descriptors in flight in this process: they are closed again.
void refuse_ancillary(const FdView& view, msghdr& message) {
  bool found = false;
  for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr; item = CMSG_NXTHDR(&message, item)) {
    found = true;
    if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; at + sizeof(int) <= item->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(item) + at, sizeof fd);
      ::close(fd);
    }
  }
  if (found || (message.msg_flags & MSG_CTRUNC) != 0) {
    fail(Errc::busy, "{} has descriptors or credentials in flight", view.describe());
  }
}

// The next message, or nothing (false) when there is none.
bool peek(const FdView& view, std::span<char> room, std::string& into) {
  alignas(cmsghdr) std::array<char, 4096> control{};
  sockaddr_un sender{};
  iovec buffer{room.data(), room.size()};
  msghdr message{};
  message.msg_name = &sender;
  message.msg_namelen = sizeof sender;
  message.msg_iov = &buffer;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size = ::recvmsg(view.fd, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 0 && (errno == EAGAIN || errno == EINVAL || errno == ENOTCONN)) return false;
  check(size, "look into {}", view.describe());
  refuse_ancillary(view, message);
  if ((message.msg_flags & MSG_TRUNC) != 0)
    fail(Errc::unsupported, "{} holds a message that is too long", view.describe());
  if (view.socket->type == SOCK_DGRAM && message.msg_namelen > sizeof(sa_family_t)) {
    fail(Errc::busy, "{} has datagrams from named senders that were not read yet", view.describe());
  }
  into.assign(room.data(), static_cast<std::size_t>(size));
  return size > 0 || view.socket->type == SOCK_DGRAM;  // with connections, 0 is the end
}

}  // namespace

std::vector<std::string> peek_unix_queue(const FdView& view) {
  int unread = 0;
  std::vector<std::string> messages;
  if (::ioctl(view.fd, FIONREAD, &unread) != 0) return messages;  // a listener
  if (unread == 0 && view.socket->type == SOCK_STREAM) return messages;
  const PeekFromStart from_start(view.fd);
  const auto room = std::make_unique_for_overwrite<char[]>(longest_message);
  std::string message;
  while (messages.size() < most_messages && peek(view, {room.get(), longest_message}, message))
    messages.push_back(message);
  return messages;
}

void send_messages(int sender, const std::vector<std::string>& messages) {
  std::size_t total = 0;
  for (const std::string& message : messages) total += message.size() + 4096;  // with what each is packed in
  if (total == 0) return;
  if (static_cast<std::size_t>(get_option(sender, SOL_SOCKET, SO_SNDBUF)) < 2 * total) {
    set_option(sender, SOL_SOCKET, SO_SNDBUFFORCE, static_cast<int>(std::min<std::size_t>(2 * total, 1 << 30)));
  }
  for (const std::string& message : messages) {
    const ssize_t sent =
        check(::send(sender, message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL), "fill a socket's queue");
    if (sent != static_cast<ssize_t>(message.size()))
      fail(Errc::no_space, "queued {} of {} bytes", sent, message.size());
  }
}

}  // namespace godwit::engine::resources
