#include "agent/engine/resources/unix_diag.h"

#include "agent/engine/resources/sock_diag.h"

#include <array>
#include <cstring>

#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>

namespace godwit::engine::resources {
namespace {

template <class T>
T value_of(std::string_view payload) {
  T value{};
  std::memcpy(&value, payload.data(), std::min(payload.size(), sizeof value));
  return value;
}

void take_attribute(int type, std::string_view payload, UnixSocketInfo& info) {
  switch (type) {
    case UNIX_DIAG_NAME:
      info.name = payload;
      if (!info.name.starts_with('\0')) info.name.resize(info.name.find_last_not_of('\0') + 1);  // a path ends in NUL
      break;
    case UNIX_DIAG_VFS: info.file_inode = value_of<unix_diag_vfs>(payload).udiag_vfs_ino; break;
    case UNIX_DIAG_PEER: info.peer = value_of<std::uint32_t>(payload); break;
    case UNIX_DIAG_RQLEN:
      info.pending = value_of<unix_diag_rqlen>(payload).udiag_rqueue;
      info.backlog = value_of<unix_diag_rqlen>(payload).udiag_wqueue;
      break;
    case UNIX_DIAG_SHUTDOWN: info.shutdown = value_of<std::uint8_t>(payload); break;
    default: break;
  }
}

}  // namespace

std::optional<UnixSocketInfo> query_unix_socket(const FdView& view, std::uint32_t inode) {
  netlink::Request<unix_diag_req> ask(SOCK_DIAG_BY_FAMILY, 0);
  ask.body.sdiag_family = AF_UNIX;
  ask.body.udiag_states = ~0u;
  ask.body.udiag_ino = inode;
  ask.body.udiag_show = UDIAG_SHOW_NAME | UDIAG_SHOW_VFS | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN;
  ask.body.udiag_cookie[0] = ask.body.udiag_cookie[1] = ~0u;  // any

  const UniqueFd diag = open_sock_diag_beside(view.fd);
  check(::send(diag.get(), &ask, sizeof ask, 0), "ask about {}", view.describe());
  alignas(nlmsghdr) std::array<char, 4096> answer{};
  const ssize_t size =
      check(::recv(diag.get(), answer.data(), answer.size(), MSG_DONTWAIT), "hear about {}", view.describe());
  return parse_unix_socket(std::as_bytes(std::span(answer)).first(static_cast<std::size_t>(size)), view.describe());
}

std::optional<UnixSocketInfo> parse_unix_socket(netlink::Bytes answer, const std::string& what) {
  const std::vector<netlink::Message> messages = netlink::messages(answer);
  if (messages.empty()) fail(Errc::internal, "a short answer about {}", what);
  const netlink::Message& first = messages.front();
  if (first.type == NLMSG_ERROR) {
    const int error = netlink::error_of(first);
    if (error == ENOENT) return std::nullopt;
    throw syscall_error(error, fmt::format("ask about {}", what));
  }
  const auto head = netlink::head_of<unix_diag_msg>(first.body);
  UnixSocketInfo info;
  info.type = head.udiag_type;
  info.state = head.udiag_state;
  for (const netlink::Attribute& a : netlink::attributes(first.body.subspan(sizeof head)))
    take_attribute(a.type, {reinterpret_cast<const char*>(a.payload.data()), a.payload.size()}, info);
  return info;
}

}  // namespace godwit::engine::resources
