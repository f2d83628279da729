#include "agent/engine/resources/netlink.h"

#include <algorithm>
#include <cerrno>

namespace godwit::engine::resources::netlink {
namespace {

// Cuts the first `length` bytes off, and what aligns the next one.
Bytes cut(Bytes& rest, std::size_t head, std::size_t length) {
  if (length < head || length > rest.size()) fail(Errc::internal, "a netlink message with a length of {}", length);
  const Bytes body = rest.subspan(head, length - head);
  rest = rest.subspan(std::min<std::size_t>(rest.size(), NLMSG_ALIGN(length)));
  return body;
}

}  // namespace

std::vector<Message> messages(Bytes datagram) {
  std::vector<Message> found;
  while (!datagram.empty()) {
    const auto head = head_of<nlmsghdr>(datagram);
    found.push_back({head.nlmsg_type, cut(datagram, NLMSG_HDRLEN, head.nlmsg_len)});
  }
  return found;
}

std::vector<Attribute> attributes(Bytes bytes) {
  std::vector<Attribute> found;
  while (!bytes.empty()) {
    const auto head = head_of<nlattr>(bytes);
    found.push_back({head.nla_type, cut(bytes, NLA_HDRLEN, head.nla_len)});
  }
  return found;
}

int error_of(const Message& message) {
  const int error = head_of<nlmsgerr>(message.body).error;
  constexpr int last_errno = 4095;
  if (error > 0 || error < -last_errno) return EBADMSG;
  return -error;
}

}  // namespace godwit::engine::resources::netlink
