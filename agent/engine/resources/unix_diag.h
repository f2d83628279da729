// What the kernel says about a unix socket (sock_diag): its name, its other end, its queues.
#pragma once

#include "agent/engine/resources/fd_view.h"
#include "agent/engine/resources/netlink.h"

#include <cstdint>
#include <optional>
#include <string>

namespace godwit::engine::resources {

struct UnixSocketInfo {
  int type = 0;
  int state = 0;                 // TCP_ESTABLISHED, TCP_LISTEN, TCP_CLOSE
  std::string name;              // as in sun_path: abstract ones begin with NUL; empty: unnamed
  std::uint32_t peer = 0;        // inode, 0: none, or closed
  std::uint32_t file_inode = 0;  // of the path that it is bound to
  std::uint32_t pending = 0;     // connections not accepted yet, of a listener
  std::uint32_t backlog = 0;     // of a listener
  unsigned shutdown = 0;         // RCV_SHUTDOWN = 1, SEND_SHUTDOWN = 2
};

// `inode` is the view's own or that of its peer. Nothing when there is no such socket.
std::optional<UnixSocketInfo> query_unix_socket(const FdView& view, std::uint32_t inode);

// The kernel's answer; `what` was asked about.
std::optional<UnixSocketInfo> parse_unix_socket(netlink::Bytes answer, const std::string& what);

}  // namespace godwit::engine::resources
