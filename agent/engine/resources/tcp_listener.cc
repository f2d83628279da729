#include "agent/engine/resources/tcp_listener.h"

#include "agent/engine/resources/inet_socket.h"
#include "agent/engine/resources/protocol_options.h"

#include <netinet/tcp.h>

namespace godwit::engine::resources::tcp_listener {
namespace {

tcp_info info_of(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  check(::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size), "read the state of a TCP socket");
  return info;
}

}  // namespace

bool matches(const FdView& view) {
  if (!inet_socket::is_tcp(view)) return false;
  const int state = view.socket->tcp_state;
  return state == TCP_LISTEN || (state == TCP_CLOSE && !inet_socket::has_ended(view.fd));
}

std::optional<Refusal> refusal(const FdView& view, SurveyContext& context) {
  if (std::optional<Refusal> refused = refuse_socket(view, context)) return refused;
  if (const auto holder = context.outside.find(view.link); holder != context.outside.end()) {
    return Refusal{view.describe(), fmt::format("the socket is also held by process {}", holder->second),
                   "end that process before the move"};
  }
  if (view.socket->tcp_state == TCP_LISTEN) {
    context.listening.push_back(fmt::format("tcp {}", inet_socket::local_address(view.fd).text()));
  }
  return std::nullopt;
}

void dump(const FdView& view, image::FileEntry& entry, DumpContext& context) {
  const tcp_info info = info_of(view.fd);
  const inet_socket::Address local = inet_socket::local_address(view.fd);
  inet_socket::describe(view, entry, info.tcpi_state, OptionSet::all);
  inet_socket::set_local(*entry.mutable_isk(), local, view.fd);
  inet_socket::set_peer(*entry.mutable_isk(), {});
  if (info.tcpi_state != TCP_LISTEN) return;
  // Of a listener these two are the limit and the length of the accept queue.
  entry.mutable_isk()->set_backlog(info.tcpi_sacked);
  if (info.tcpi_unacked == 0) return;
  if (!context.options.tcp_close) {
    fail(Errc::busy, "{} connections to {} wait to be accepted", info.tcpi_unacked, local.text());
  }
  context.notices.push_back(
      fmt::format("{} connections to {} that were not accepted yet are closed", info.tcpi_unacked, local.text()));
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext&) {
  const image::InetSkEntry& socket = entry.isk();
  UniqueFd fd = inet_socket::make_bound(socket);
  if (socket.state() == TCP_LISTEN) {
    check(::listen(fd.get(), static_cast<int>(socket.backlog())), "listen at {}",
          inet_socket::local_address(socket, fd.get()).text());
  }
  restore_protocol_options(fd.get(), socket);
  restore_socket_options(fd.get(), socket.opts());
  return fd;
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::tcp_listener
