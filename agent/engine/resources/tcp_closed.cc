#include "agent/engine/resources/tcp_closed.h"

#include "agent/engine/resources/inet_socket.h"
#include "agent/engine/resources/protocol_options.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>

namespace godwit::engine::resources::tcp_closed {
namespace {

constexpr int repair_off_no_window_probe = -1;  // TCP_REPAIR_OFF_NO_WP

bool reset_pending(int fd) {
  pollfd poll{fd, 0, 0};
  check(::poll(&poll, 1, 0), "poll a socket");
  return (poll.revents & POLLERR) != 0;
}

// Makes the socket one whose peer has sent a reset: a connection to the loopback's discard port is declared
// (TCP_REPAIR sends nothing) and aborted; nobody is there to mind the reset that goes to it. Where the loopback is
// down, the owner finds the end of the stream instead of a reset.
void pretend_reset(int fd, std::uint32_t family) {
  sockaddr_storage peer{};
  socklen_t size = 0;
  if (family == AF_INET) {
    auto& in = reinterpret_cast<sockaddr_in&>(peer);
    in.sin_family = AF_INET;
    in.sin_port = htons(9);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    size = sizeof in;
  } else {
    auto& in = reinterpret_cast<sockaddr_in6&>(peer);
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(9);
    in.sin6_addr = in6addr_loopback;
    size = sizeof in;
  }
  set_option(fd, IPPROTO_TCP, TCP_REPAIR, 1);
  const bool connected = ::connect(fd, reinterpret_cast<const sockaddr*>(&peer), size) == 0;
  set_option(fd, IPPROTO_TCP, TCP_REPAIR, connected ? repair_off_no_window_probe : 0);
  if (!connected) return;
  const sockaddr nobody{.sa_family = AF_UNSPEC, .sa_data = {}};
  check(::connect(fd, &nobody, sizeof nobody), "abort a connection");
}

}  // namespace

bool matches(const FdView& view) {
  if (!inet_socket::is_tcp(view)) return false;
  const int state = view.socket->tcp_state;
  return state != TCP_LISTEN && (state != TCP_CLOSE || inet_socket::has_ended(view.fd));
}

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  const int state = view.socket->tcp_state;
  if (state == TCP_CLOSE) {
    int unread = 0;
    check(::ioctl(view.fd, FIONREAD, &unread), "read the fill of {}", view.describe());
    if (unread > 0 && !context.options.tcp_close) {
      return Refusal{view.describe(), fmt::format("the connection has ended with {} bytes not yet read", unread),
                     "let the task read or close it, or give --tcp-close"};
    }
    return std::nullopt;
  }
  if (context.options.tcp_close) return std::nullopt;
  return Refusal{fmt::format("{} (tcp, {} <-> {}, {})", view.describe(), inet_socket::local_address(view.fd).text(),
                             inet_socket::peer_address(view.fd).text(), inet_socket::tcp_state_name(state)),
                 "an established TCP connection cannot follow to another address",
                 "give --tcp-close to close it at the destination, or wait until it ends", "--tcp-established"};
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext&) {
  const bool was_connected = view.socket->tcp_state != TCP_CLOSE;
  inet_socket::describe(view, entry, TCP_CLOSE, OptionSet::required);
  image::InetSkEntry& socket = *entry.mutable_isk();
  // Bound nowhere, as CRIU has it after --tcp-close: the address may not exist at the destination.
  for (int i = 0; i < (socket.family() == AF_INET ? 1 : 4); ++i) socket.add_src_addr(0);
  inet_socket::set_peer(socket, {});
  socket.set_shutdown(image::SHUTDOWN_BOTH);
  socket.set_reset(was_connected || reset_pending(view.fd));
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext&) {
  const image::InetSkEntry& socket = entry.isk();
  UniqueFd fd(
      check(::socket(static_cast<int>(socket.family()), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP),
            "create a TCP socket"));
  if (socket.reset()) pretend_reset(fd.get(), socket.family());
  // Says ENOTCONN and works nevertheless: reads find the end of the stream, writes EPIPE, poll HUP.
  if (::shutdown(fd.get(), SHUT_RDWR) != 0 && errno != ENOTCONN) throw syscall_error(errno, "shut a socket down");
  restore_protocol_options(fd.get(), socket);
  restore_socket_options(fd.get(), socket.opts());
  return fd;
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::tcp_closed
