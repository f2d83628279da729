#include "agent/engine/resources/inet_socket.h"

#include "agent/engine/resources/fown.h"
#include "agent/engine/resources/protocol_options.h"
#include "agent/engine/resources/tcp_closed.h"
#include "agent/engine/resources/tcp_listener.h"
#include "agent/engine/resources/tcp_remnants.h"
#include "agent/engine/resources/udp.h"

#include <cstring>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>

namespace godwit::engine::resources::inet_socket {
namespace {

constexpr int ipv6_freebind = 78;  // linux/in6.h, which clashes with <netinet/in.h>

const sockaddr_in& v4(const Address& address) { return reinterpret_cast<const sockaddr_in&>(address.storage); }
const sockaddr_in6& v6(const Address& address) { return reinterpret_cast<const sockaddr_in6&>(address.storage); }

template <class Words>
void put_words(const Address& address, Words* words) {
  if (address.storage.ss_family == AF_INET) {
    words->Add(v4(address).sin_addr.s_addr);
    return;
  }
  std::uint32_t parts[4];
  std::memcpy(parts, &v6(address).sin6_addr, sizeof parts);
  for (const std::uint32_t part : parts) words->Add(part);
}

template <class Words>
Address address_of(std::uint32_t family, const Words& words, std::uint32_t port) {
  Address address;
  if (port > 65535) fail(Errc::image_corrupt, "port {} of a socket", port);
  if (family == AF_INET && words.size() == 1) {
    auto& in = reinterpret_cast<sockaddr_in&>(address.storage);
    in.sin_family = AF_INET;
    in.sin_port = htons(static_cast<std::uint16_t>(port));
    in.sin_addr.s_addr = words.Get(0);
    address.size = sizeof in;
  } else if (family == AF_INET6 && words.size() == 4) {
    auto& in = reinterpret_cast<sockaddr_in6&>(address.storage);
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(static_cast<std::uint16_t>(port));
    std::memcpy(&in.sin6_addr, words.data(), sizeof in.sin6_addr);
    address.size = sizeof in;
  } else {
    fail(Errc::image_corrupt, "{} address words for a socket of family {}", words.size(), family);
  }
  return address;
}

}  // namespace

bool Address::any() const {
  if (size == 0) return true;
  if (port() != 0) return false;
  if (storage.ss_family == AF_INET) return v4(*this).sin_addr.s_addr == INADDR_ANY;
  return IN6_IS_ADDR_UNSPECIFIED(&v6(*this).sin6_addr);
}

std::uint16_t Address::port() const {
  return ntohs(storage.ss_family == AF_INET ? v4(*this).sin_port : v6(*this).sin6_port);
}

std::string Address::text() const {
  if (size == 0) return "nowhere";
  char text[INET6_ADDRSTRLEN]{};
  if (storage.ss_family == AF_INET) {
    ::inet_ntop(AF_INET, &v4(*this).sin_addr, text, sizeof text);
    return fmt::format("{}:{}", text, port());
  }
  ::inet_ntop(AF_INET6, &v6(*this).sin6_addr, text, sizeof text);
  return fmt::format("[{}]:{}", text, port());
}

Address local_address(int fd) {
  Address address{.size = sizeof(sockaddr_storage)};
  check(::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.size), "read a socket's address");
  return address;
}

Address peer_address(int fd) {
  Address address{.size = sizeof(sockaddr_storage)};
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.size) == 0) return address;
  if (errno != ENOTCONN) throw syscall_error(errno, "read the address of a socket's peer");
  return {};
}

bool is_tcp(const FdView& view) {
  if (!view.socket || (view.socket->domain != AF_INET && view.socket->domain != AF_INET6)) return false;
  return view.socket->type == SOCK_STREAM && view.socket->protocol == IPPROTO_TCP;
}

bool is_udp(const FdView& view) {
  if (!view.socket || (view.socket->domain != AF_INET && view.socket->domain != AF_INET6)) return false;
  return view.socket->type == SOCK_DGRAM && view.socket->protocol == IPPROTO_UDP;
}

std::string_view tcp_state_name(int state) {
  switch (state) {
    case TCP_ESTABLISHED: return "established";
    case TCP_SYN_SENT: return "connecting";
    case TCP_SYN_RECV: return "being accepted";
    case TCP_FIN_WAIT1: return "closing (FIN_WAIT1)";
    case TCP_FIN_WAIT2: return "closing (FIN_WAIT2)";
    case TCP_TIME_WAIT: return "closed (TIME_WAIT)";
    case TCP_CLOSE: return "closed";
    case TCP_CLOSE_WAIT: return "closed by the peer (CLOSE_WAIT)";
    case TCP_LAST_ACK: return "closing (LAST_ACK)";
    case TCP_LISTEN: return "listening";
    case TCP_CLOSING: return "closing";
    default: return "in an unknown state";
  }
}

bool has_ended(int fd) {
  pollfd poll{fd, POLLRDHUP, 0};
  check(::poll(&poll, 1, 0), "poll a socket");
  return (poll.revents & (POLLRDHUP | POLLERR)) != 0;
}

void describe(const FdView& view, image::FileEntry& entry, int state, OptionSet options) {
  image::InetSkEntry& socket = *entry.mutable_isk();
  socket.set_id(entry.id());
  socket.set_ino(static_cast<std::uint32_t>(view.st.st_ino));
  socket.set_family(static_cast<std::uint32_t>(view.socket->domain));
  socket.set_type(static_cast<std::uint32_t>(view.socket->type));
  socket.set_proto(static_cast<std::uint32_t>(view.socket->protocol));
  socket.set_state(static_cast<std::uint32_t>(state));
  socket.set_src_port(0);
  socket.set_dst_port(0);
  socket.set_flags(view.flags());
  socket.set_backlog(0);
  *socket.mutable_fown() = dump_fown(view.fd);
  *socket.mutable_opts() = dump_socket_options(view, options);
  socket.set_uid(view.st.st_uid);
  if (socket.family() == AF_INET6) socket.set_v6only(get_option(view.fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0);
  if (get_option(view.fd, IPPROTO_IP, IP_FREEBIND) != 0) socket.mutable_ip_opts()->set_freebind(true);
  if (options == OptionSet::all) dump_protocol_options(view, socket);
}

void set_local(image::InetSkEntry& entry, const Address& address, int fd) {
  entry.set_src_port(address.port());
  put_words(address, entry.mutable_src_addr());
  if (address.storage.ss_family == AF_INET6 && v6(address).sin6_scope_id != 0) {
    ifreq request{};
    request.ifr_ifindex = static_cast<int>(v6(address).sin6_scope_id);
    // Asked of the socket, whose network namespace need not be ours.
    check(::ioctl(fd, SIOCGIFNAME, &request), "name interface {}", request.ifr_ifindex);
    entry.set_ifname(request.ifr_name);
  }
}

void set_peer(image::InetSkEntry& entry, const Address& address) {
  if (address.size == 0) {
    for (int i = 0; i < entry.src_addr_size(); ++i) entry.add_dst_addr(0);
    return;
  }
  entry.set_dst_port(address.port());
  put_words(address, entry.mutable_dst_addr());
}

Address local_address(const image::InetSkEntry& entry, int fd) {
  Address address = address_of(entry.family(), entry.src_addr(), entry.src_port());
  if (entry.has_ifname() && entry.family() == AF_INET6) {
    ifreq request{};
    entry.ifname().copy(request.ifr_name, sizeof request.ifr_name - 1);
    check(::ioctl(fd, SIOCGIFINDEX, &request), "find interface {}", entry.ifname());
    reinterpret_cast<sockaddr_in6&>(address.storage).sin6_scope_id = static_cast<std::uint32_t>(request.ifr_ifindex);
  }
  return address;
}

Address peer_address(const image::InetSkEntry& entry) {
  return address_of(entry.family(), entry.dst_addr(), entry.dst_port());
}

namespace {

void bind_there(int fd, const Address& address, int type) {
  const auto* name = reinterpret_cast<const sockaddr*>(&address.storage);
  if (::bind(fd, name, address.size) == 0) return;
  if (errno == EADDRINUSE && type == SOCK_STREAM) remove_tcp_remnants(address.port());
  check(::bind(fd, name, address.size), "bind to {}", address.text());
}

}  // namespace

UniqueFd make_bound(const image::InetSkEntry& entry) {
  UniqueFd fd(
      check(::socket(static_cast<int>(entry.family()), static_cast<int>(entry.type()) | SOCK_CLOEXEC | SOCK_NONBLOCK,
                     static_cast<int>(entry.proto())),
            "create a socket of family {}", entry.family()));
  // Whose it is decides who may share its port (SO_REUSEPORT); a socket takes chown(2) for its owner since 4.10.
  if (entry.uid() != 0)
    check(::fchown(fd.get(), entry.uid(), static_cast<gid_t>(-1)), "give a socket to user {}", entry.uid());
  restore_options_before_bind(fd.get(), entry.opts());
  if (entry.has_v6only()) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, entry.v6only());
  if (entry.ip_opts().freebind()) {
    if (entry.family() == AF_INET) set_option(fd.get(), IPPROTO_IP, IP_FREEBIND, 1);
    if (entry.family() == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, ipv6_freebind, 1);
  }
  const Address address = local_address(entry, fd.get());
  if (!address.any()) bind_there(fd.get(), address, static_cast<int>(entry.type()));
  return fd;
}

UniqueFd restore(const image::FileEntry& entry, RestoreContext& context) {
  const image::InetSkEntry& socket = entry.isk();
  if (socket.family() != AF_INET && socket.family() != AF_INET6) {
    fail(Errc::unsupported, "a socket of family {} cannot be restored", socket.family());
  }
  if (socket.type() == SOCK_DGRAM && socket.proto() == IPPROTO_UDP) return udp::restore(entry, context);
  if (socket.type() != SOCK_STREAM || socket.proto() != IPPROTO_TCP) {
    fail(Errc::unsupported, "a socket of type {}, protocol {} cannot be restored", socket.type(), socket.proto());
  }
  const bool over = socket.state() == TCP_CLOSE && (socket.shutdown() == image::SHUTDOWN_BOTH || socket.reset());
  if (socket.state() == TCP_LISTEN || (socket.state() == TCP_CLOSE && !over))
    return tcp_listener::restore(entry, context);
  return tcp_closed::restore(entry, context);
}

void link(const image::FileEntry&, int, RestoreContext&) {}

}  // namespace godwit::engine::resources::inet_socket
