#include "agent/engine/restore/message.h"

#include "common/base/check.h"

#include <cstring>

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
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  }
  check(::sendmsg(socket, &message, MSG_NOSIGNAL), "send to the other side of the restore");
}

Message receive_message(int socket) {
  Message received;
  received.text.resize(largest);
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  iovec part{received.text.data(), received.text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = check(::recvmsg(socket, &message, MSG_CMSG_CLOEXEC), "hear from the other side of the restore");
  if (message.msg_flags & MSG_TRUNC) fail(Errc::internal, "a message of more than {} bytes", largest);
  received.text.resize(static_cast<std::size_t>(n));
  if (const cmsghdr* head = CMSG_FIRSTHDR(&message); head && head->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(head), sizeof fd);
    received.fd.reset(fd);
  }
  return received;
}

}  // namespace godwit::engine
