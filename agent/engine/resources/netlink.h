// Netlink messages and their attributes, as spans of a datagram. The macros of <linux/netlink.h> count down an unsigned
// rest, which runs past the end where a last length is not aligned. Errors: Errc::internal.
#pragma once

#include "common/base/error.h"

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include <linux/netlink.h>

namespace godwit::engine::resources::netlink {

using Bytes = std::span<const std::byte>;

// One message, as it is sent; the body is for the caller to fill in.
template <class Body>
struct Request {
  Request(std::uint16_t type, std::uint16_t flags) {
    header.nlmsg_len = sizeof *this;
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  }
  nlmsghdr header{};
  Body body{};
};

struct Message {
  std::uint16_t type = 0;
  Bytes body;
};
std::vector<Message> messages(Bytes datagram);

struct Attribute {
  std::uint16_t type = 0;
  Bytes payload;
};
std::vector<Attribute> attributes(Bytes bytes);

// What an answer begins with. A later kernel may say more.
template <class T>
T head_of(Bytes body) {
  if (body.size() < sizeof(T)) fail(Errc::internal, "a netlink message of {} bytes", body.size());
  T head;
  std::memcpy(&head, body.data(), sizeof head);
  return head;
}

// The error number of an NLMSG_ERROR; 0 acknowledges.
int error_of(const Message& message);

}  // namespace godwit::engine::resources::netlink
