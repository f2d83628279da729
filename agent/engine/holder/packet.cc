#include "agent/engine/holder/packet.h"

#include "common/base/check.h"
#include "common/base/passed_fds.h"
#include "common/base/waiting.h"

#include <poll.h>
#include <sys/socket.h>

namespace godwit::engine::holder {
namespace {

constexpr std::size_t largest = 256u << 10;

}  // namespace

void send(int socket, const google::protobuf::MessageLite& message, const std::vector<int>& fds) {
  std::string bytes = message.SerializeAsString();
  iovec part{bytes.data(), bytes.size()};
  msghdr packet{};
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  PassedFds passed;
  passed.attach(packet, fds);
  if (::sendmsg(socket, &packet, MSG_NOSIGNAL) >= 0) return;
  if (errno == EPIPE || errno == ECONNRESET) fail(Errc::peer_lost, "the other side of the tracker has gone");
  check(-1, "send to the other side of the tracker");
}

std::vector<UniqueFd> receive(int socket, google::protobuf::MessageLite& message,
                              std::optional<std::chrono::milliseconds> limit) {
  if (limit) wait_ready(socket, POLLIN, Clock::now() + *limit, "hear from the other side of the tracker");
  std::string bytes(largest, '\0');
  iovec part{bytes.data(), bytes.size()};
  msghdr packet{};
  packet.msg_iov = &part;
  packet.msg_iovlen = 1;
  PassedFds passed;
  ssize_t got = -1;
  do {
    got = passed.receive(socket, packet);
  } while (got < 0 && errno == EINTR);
  if (check(got, "hear from the other side of the tracker") == 0)
    fail(Errc::peer_lost, "the other side of the tracker has gone");
  std::vector<UniqueFd> fds = PassedFds::take(packet);
  if ((packet.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || !message.ParseFromArray(bytes.data(), static_cast<int>(got)))
    fail(Errc::protocol, "a message about the tracker that cannot be read");
  return fds;
}

}  // namespace godwit::engine::holder
