#include "agent/engine/restore/message.h"

#include "common/base/check.h"
#include "common/base/passed_fds.h"

#include <array>

#include <sys/socket.h>

namespace godwit::engine {
namespace {
constexpr std::size_t largest = 64 * 1024;
}

void send_message(int socket, const std::string& text, int fd) {
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  PassedFds passed;
  if (fd >= 0) passed.attach(message, std::span(&fd, 1));
  check(::sendmsg(socket, &message, MSG_NOSIGNAL), "send to the other side of the restore");
}

Message receive_message(int socket) {
  std::array<char, largest> text;  // not filled with zeros first
  iovec part{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  PassedFds passed;
  const ssize_t n = check(passed.receive(socket, message), "hear from the other side of the restore");
  std::vector<UniqueFd> fds = PassedFds::take(message);
  if (message.msg_flags & MSG_TRUNC) fail(Errc::internal, "a message of more than {} bytes", largest);
  Message received{.text = {text.data(), static_cast<std::size_t>(n)}, .fd = {}};
  if (!fds.empty()) received.fd = std::move(fds.front());
  return received;
}

}  // namespace godwit::engine
