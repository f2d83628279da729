#include "agent/engine/resources/tcp_remnants.h"

#include "common/base/fd.h"

#include <array>
#include <vector>

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace godwit::engine::resources {
namespace {

constexpr std::uint32_t dying =
    1u << TCP_TIME_WAIT | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSING | 1u << TCP_LAST_ACK;

struct Request {
  nlmsghdr header{};
  inet_diag_req_v2 body{};
};

Request request_for(std::uint8_t family, std::uint16_t type, std::uint16_t flags) {
  Request request;
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = dying;
  return request;
}

void collect(const nlmsghdr& header, std::uint16_t port, std::vector<inet_diag_sockid>& found) {
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || header.nlmsg_len < NLMSG_LENGTH(sizeof(inet_diag_msg))) return;
  const auto& message = *static_cast<const inet_diag_msg*>(NLMSG_DATA(&header));
  // An inode means that a process holds it, which may read or write yet.
  if (message.idiag_inode == 0 && ntohs(message.id.idiag_sport) == port) found.push_back(message.id);
}

std::vector<inet_diag_sockid> list(int netlink, std::uint8_t family, std::uint16_t port) {
  Request request = request_for(family, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
  request.body.id.idiag_sport = htons(port);
  check(::send(netlink, &request, sizeof request, 0), "ask for TCP sockets at port {}", port);
  std::vector<inet_diag_sockid> found;
  alignas(nlmsghdr) std::array<char, 32768> answer{};
  for (;;) {
    // The kernel has the answer ready before send returns.
    const ssize_t size = check(::recv(netlink, answer.data(), answer.size(), MSG_DONTWAIT), "list TCP sockets");
    auto left = static_cast<unsigned>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(answer.data()); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE || header->nlmsg_type == NLMSG_ERROR) return found;
      collect(*header, port, found);
    }
  }
}

bool destroy(int netlink, std::uint8_t family, const inet_diag_sockid& id) {
  Request request = request_for(family, SOCK_DESTROY, NLM_F_ACK);
  request.body.id = id;
  check(::send(netlink, &request, sizeof request, 0), "remove a dead TCP socket");
  alignas(nlmsghdr) std::array<char, 1024> answer{};
  check(::recv(netlink, answer.data(), answer.size(), MSG_DONTWAIT), "remove a dead TCP socket");
  const auto& header = *reinterpret_cast<const nlmsghdr*>(answer.data());
  // It may have gone by itself; without CONFIG_INET_DIAG_DESTROY it stays, and so does the caller's EADDRINUSE.
  return header.nlmsg_type == NLMSG_ERROR && static_cast<const nlmsgerr*>(NLMSG_DATA(&header))->error == 0;
}

}  // namespace

int remove_tcp_remnants(std::uint16_t port) {
  const UniqueFd netlink(
      check(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), "open a diagnostic socket"));
  int removed = 0;
  for (const std::uint8_t family : {AF_INET, AF_INET6}) {
    for (const inet_diag_sockid& id : list(netlink.get(), family, port))
      removed += destroy(netlink.get(), family, id) ? 1 : 0;
  }
  return removed;
}

}  // namespace godwit::engine::resources
