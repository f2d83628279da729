#include "agent/engine/holder/packet.h"

#include "common/base/check.h"
#include "common/base/waiting.h"

#include <array>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>

namespace godwit::engine::holder {
namespace {

constexpr std::size_t largest = 256u << 10;
constexpr std::size_t most_fds = 4;

}  // namespace

void send(int socket, const google::protobuf::MessageLite& message, const std::vector<int>& fds) {
  std::string bytes = message.SerializeAsString();
  iovec part{bytes.data(), bytes.size()};
  msghdr packet{};
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * most_fds)> control{};
  if (!fds.empty()) {
    packet.msg_control = control.data();
    packet.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr* head = CMSG_FIRSTHDR(&packet);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(head), fds.data(), sizeof(int) * fds.size());
  }
  if (::sendmsg(socket, &packet, MSG_NOSIGNAL) >= 0) return;
  if (errno == EPIPE || errno == ECONNRESET) fail(Errc::peer_lost, "the other side of the tracker has gone");
  check(-1, "send to the other side of the tracker");
}

std::vector<UniqueFd> receive(int socket, google::protobuf::MessageLite& message,
                              std::optional<std::chrono::milliseconds> limit) {
  if (limit) wait_ready(socket, POLLIN, Clock::now() + *limit, "hear from the other side of the tracker");
  std::string bytes(largest, '\0');
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * most_fds)> control{};
  msghdr packet{};
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  packet.msg_control = control.data();
  packet.msg_controllen = control.size();
  ssize_t got = -1;
  do {
    got = ::recvmsg(socket, &packet, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno != ECONNRESET) check(got, "hear from the other side of the tracker");
  std::vector<UniqueFd> fds;
  for (cmsghdr* head = got > 0 ? CMSG_FIRSTHDR(&packet) : nullptr; head; head = CMSG_NXTHDR(&packet, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t at = 0; at + sizeof(int) <= head->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head) + at, sizeof fd);
      fds.emplace_back(fd);
    }
  }
  if (got <= 0) fail(Errc::peer_lost, "the other side of the tracker has gone");
  if ((packet.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || !message.ParseFromArray(bytes.data(), static_cast<int>(got)))
    fail(Errc::protocol, "a message about the tracker that cannot be read");
  return fds;
}

}  // namespace godwit::engine::holder
