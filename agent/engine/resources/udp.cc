#include "agent/engine/resources/udp.h"

#include "agent/engine/resources/inet_socket.h"
#include "agent/engine/resources/multicast.h"
#include "agent/engine/resources/protocol_options.h"

#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>

namespace godwit::engine::resources::udp {

bool matches(const FdView& view) { return inet_socket::is_udp(view); }

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  if (std::optional<Refusal> refused = refuse_socket(view, context)) return refused;
  if (const auto holder = context.outside.find(view.link); holder != context.outside.end()) {
    return Refusal{view.describe(), fmt::format("the socket is also held by process {}", holder->second),
                   "end that process before the move"};
  }
  if (get_option(view.fd, IPPROTO_UDP, UDP_CORK) != 0) {
    return Refusal{view.describe(), "a datagram is being put together (UDP_CORK)", "let the task send it"};
  }
  if (const std::optional<std::string> group = joined_group(view)) {
    return Refusal{view.describe(), fmt::format("the socket has joined multicast group {}", *group),
                   "let the task leave the group before the move"};
  }
  const inet_socket::Address local = inet_socket::local_address(view.fd);
  if (local.port() != 0 && inet_socket::peer_address(view.fd).size == 0) {
    context.listening.push_back(fmt::format("udp {}", local.text()));
  }
  return std::nullopt;
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext& context) {
  const inet_socket::Address peer = inet_socket::peer_address(view.fd);
  inet_socket::describe(view, entry, peer.size != 0 ? TCP_ESTABLISHED : TCP_CLOSE, OptionSet::all);
  inet_socket::set_local(*entry.mutable_isk(), inet_socket::local_address(view.fd), view.fd);
  inet_socket::set_peer(*entry.mutable_isk(), peer);
  int unread = 0;
  check(::ioctl(view.fd, FIONREAD, &unread), "read the fill of {}", view.describe());
  if (unread > 0) {
    // Their senders' addresses could not be put back with them; UDP owners are used to loss.
    context.notices.push_back(fmt::format("{}: datagrams that were not read yet are lost", view.describe()));
  }
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext&) {
  const image::InetSkEntry& socket = entry.isk();
  UniqueFd fd = inet_socket::make_bound(socket);
  restore_protocol_options(fd.get(), socket);
  restore_socket_options(fd.get(), socket.opts());
  if (socket.state() == TCP_ESTABLISHED) {
    const inet_socket::Address peer = inet_socket::peer_address(socket);
    check(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&peer.storage), peer.size), "connect to {}",
          peer.text());
  }
  return fd;
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::udp
