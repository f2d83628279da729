// What TCP and UDP sockets have in common: addresses, the record, making the socket, binding it. And the restore of
// all FD_INETSK entries, which picks the kind by protocol and state.
#pragma once

#include "agent/engine/resources/fd_kind.h"
#include "agent/engine/resources/socket_options.h"

#include <string>

#include <netinet/in.h>
#include <sys/socket.h>

namespace godwit::engine::resources::inet_socket {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  bool any() const;          // no address and no port
  std::string text() const;  // "10.0.0.1:80", "[::1]:80"
  std::uint16_t port() const;
};

Address local_address(int fd);
Address peer_address(int fd);  // empty when there is none

bool is_tcp(const FdView& view);
bool is_udp(const FdView& view);
std::string_view tcp_state_name(int state);
// The connection of a TCP_CLOSE socket is over, as opposed to a socket that was never connected.
bool has_ended(int fd);

// Everything but addresses; `state` is TCP_*.
void describe(const FdView& view, image::FileEntry& entry, int state, OptionSet options);
void set_local(image::InetSkEntry& entry, const Address& address, int fd);
void set_peer(image::InetSkEntry& entry, const Address& address);

Address local_address(const image::InetSkEntry& entry, int fd);  // `fd` knows the interfaces
Address peer_address(const image::InetSkEntry& entry);

// A socket of the entry's family, non-blocking, with the options that must come before bind, bound where the entry
// says.
UniqueFd make_bound(const image::InetSkEntry& entry);

UniqueFd restore(const image::FileEntry& entry, RestoreContext& context);
void link(const image::FileEntry& entry, int fd, RestoreContext& context);

}  // namespace godwit::engine::resources::inet_socket
