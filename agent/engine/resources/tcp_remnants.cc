#include "agent/engine/resources/tcp_remnants.h"

#include "common/base/fd.h"

#include <array>

#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace godwit::engine::resources {
namespace {

constexpr std::uint32_t dying =
    1u << TCP_TIME_WAIT | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2 | 1u << TCP_CLOSING | 1u << TCP_LAST_ACK;

using Request = netlink::Request<inet_diag_req_v2>;

Request request_for(std::uint8_t family, std::uint16_t type, std::uint16_t flags) {
  Request request(type, flags);
  request.body.sdiag_family = family;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = dying;
  return request;
}

template <std::size_t n>
netlink::Bytes part_of(const std::array<char, n>& answer, ssize_t size) {
  return std::as_bytes(std::span(answer)).first(static_cast<std::size_t>(size));
}

std::vector<inet_diag_sockid> list(int socket, std::uint8_t family, std::uint16_t port) {
  Request request = request_for(family, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
  request.body.id.idiag_sport = htons(port);
  check(::send(socket, &request, sizeof request, 0), "ask for TCP sockets at port {}", port);
  std::vector<inet_diag_sockid> found;
  alignas(nlmsghdr) std::array<char, 32768> answer{};
  for (;;) {
    // The kernel has the answer ready before send returns.
    const ssize_t size = check(::recv(socket, answer.data(), answer.size(), MSG_DONTWAIT), "list TCP sockets");
    if (!collect_remnants(part_of(answer, size), port, found)) return found;
  }
}

bool destroy(int socket, std::uint8_t family, const inet_diag_sockid& id) {
  Request request = request_for(family, SOCK_DESTROY, NLM_F_ACK);
  request.body.id = id;
  check(::send(socket, &request, sizeof request, 0), "remove a dead TCP socket");
  alignas(nlmsghdr) std::array<char, 1024> answer{};
  const ssize_t size = check(::recv(socket, answer.data(), answer.size(), MSG_DONTWAIT), "remove a dead TCP socket");
  const std::vector<netlink::Message> messages = netlink::messages(part_of(answer, size));
  // It may have gone by itself; without CONFIG_INET_DIAG_DESTROY it stays, and so does the caller's EADDRINUSE.
  return !messages.empty() && messages.front().type == NLMSG_ERROR && netlink::error_of(messages.front()) == 0;
}

}  // namespace

bool collect_remnants(netlink::Bytes answer, std::uint16_t port, std::vector<inet_diag_sockid>& found) {
  for (const netlink::Message& message : netlink::messages(answer)) {
    if (message.type == NLMSG_DONE || message.type == NLMSG_ERROR) return false;
    if (message.type != SOCK_DIAG_BY_FAMILY) continue;
    const auto socket = netlink::head_of<inet_diag_msg>(message.body);
    // An inode means that a process holds it, which may read or write yet.
    if (socket.idiag_inode == 0 && ntohs(socket.id.idiag_sport) == port) found.push_back(socket.id);
  }
  return true;
}

int remove_tcp_remnants(std::uint16_t port) {
  const UniqueFd diag(
      check(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), "open a diagnostic socket"));
  int removed = 0;
  for (const std::uint8_t family : {AF_INET, AF_INET6}) {
    for (const inet_diag_sockid& id : list(diag.get(), family, port))
      removed += destroy(diag.get(), family, id) ? 1 : 0;
  }
  return removed;
}

}  // namespace godwit::engine::resources
