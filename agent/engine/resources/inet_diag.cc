#include "agent/engine/resources/inet_diag.h"

#include "agent/engine/resources/inet_socket.h"
#include "agent/engine/resources/sock_diag.h"

#include <array>

#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace godwit::engine::resources {

bool has_md5_keys(const FdView& view) {
  if (view.socket->tcp_state != TCP_LISTEN) return false;
  netlink::Request<inet_diag_req_v2> ask(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP);
  ask.body.sdiag_family = static_cast<std::uint8_t>(view.socket->domain);
  ask.body.sdiag_protocol = IPPROTO_TCP;
  ask.body.idiag_ext = 1u << (INET_DIAG_INFO - 1);  // which the keys come with
  ask.body.idiag_states = 1u << TCP_LISTEN;
  ask.body.id.idiag_sport = htons(inet_socket::local_address(view.fd).port());
  const UniqueFd diag = open_sock_diag_beside(view.fd);
  check(::send(diag.get(), &ask, sizeof ask, 0), "ask for the keys of {}", view.describe());
  alignas(nlmsghdr) std::array<char, 32768> answer{};
  for (bool more = true; more;) {
    // The kernel has the answer ready before send returns.
    const ssize_t size =
        check(::recv(diag.get(), answer.data(), answer.size(), MSG_DONTWAIT), "hear of {}", view.describe());
    const auto found = find_md5_keys(std::as_bytes(std::span(answer)).first(static_cast<std::size_t>(size)),
                                     static_cast<std::uint32_t>(view.st.st_ino), more);
    if (found) return *found;
  }
  return false;
}

std::optional<bool> find_md5_keys(netlink::Bytes answer, std::uint32_t inode, bool& more) {
  for (const netlink::Message& message : netlink::messages(answer)) {
    if (message.type == NLMSG_DONE || message.type == NLMSG_ERROR) {
      more = false;
      return std::nullopt;
    }
    if (message.type != SOCK_DIAG_BY_FAMILY) continue;
    const auto socket = netlink::head_of<inet_diag_msg>(message.body);
    if (socket.idiag_inode != inode) continue;
    for (const netlink::Attribute& a : netlink::attributes(message.body.subspan(sizeof socket)))
      if (a.type == INET_DIAG_MD5SIG) return true;
    return false;
  }
  return std::nullopt;
}

}  // namespace godwit::engine::resources
