#include "common/base/passed_fds.h"

#include "common/base/error.h"

#include <cerrno>
#include <cstring>

namespace godwit {

void PassedFds::attach(msghdr& message, std::span<const int> fds) {
  if (fds.size() > most) fail(Errc::internal, "{} descriptors in one message", fds.size());
  if (fds.empty()) return;
  message.msg_control = control_.data();
  message.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(head), fds.data(), fds.size_bytes());
}

ssize_t PassedFds::receive(int socket, msghdr& message, int flags) {
  message.msg_control = control_.data();
  message.msg_controllen = control_.size();
  ssize_t received = -1;
  do {
    received = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | flags);
  } while (received < 0 && errno == ECONNRESET);
  return received;
}

std::vector<UniqueFd> PassedFds::take(msghdr& message) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; at + sizeof(int) <= head->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head) + at, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

}  // namespace godwit
