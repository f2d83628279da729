#include "agent/engine/resources/protocol_options.h"

#include "agent/engine/resources/socket_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>

namespace godwit::engine::resources {
namespace {

void dump_tcp(int fd, image::TcpOptsEntry& into) {
  const auto get = [&](int name) { return static_cast<std::uint32_t>(get_option(fd, IPPROTO_TCP, name)); };
  into.set_cork(get(TCP_CORK) != 0);
  into.set_nodelay(get(TCP_NODELAY) != 0);
  into.set_keepcnt(get(TCP_KEEPCNT));
  into.set_keepidle(get(TCP_KEEPIDLE));
  into.set_keepintvl(get(TCP_KEEPINTVL));
}

void restore_tcp(int fd, const image::TcpOptsEntry& from) {
  const auto set = [&](int name, std::uint32_t value) { set_option(fd, IPPROTO_TCP, name, static_cast<int>(value)); };
  if (from.cork()) set(TCP_CORK, 1);
  if (from.nodelay()) set(TCP_NODELAY, 1);
  if (from.has_keepcnt()) set(TCP_KEEPCNT, from.keepcnt());
  if (from.has_keepidle()) set(TCP_KEEPIDLE, from.keepidle());
  if (from.has_keepintvl()) set(TCP_KEEPINTVL, from.keepintvl());
}

}  // namespace

void dump_protocol_options(const FdView& view, image::InetSkEntry& into) {
  image::IpOptsEntry& ip = *into.mutable_ip_opts();
  if (into.family() == AF_INET) {
    ip.set_pktinfo(get_option(view.fd, IPPROTO_IP, IP_PKTINFO) != 0);
    ip.set_tos(static_cast<std::uint32_t>(get_option(view.fd, IPPROTO_IP, IP_TOS)));
    ip.set_ttl(static_cast<std::uint32_t>(get_option(view.fd, IPPROTO_IP, IP_TTL)));
  } else {
    ip.set_pktinfo(get_option(view.fd, IPPROTO_IPV6, IPV6_RECVPKTINFO) != 0);
  }
  if (into.type() == SOCK_STREAM) dump_tcp(view.fd, *into.mutable_tcp_opts());
}

void restore_protocol_options(int fd, const image::InetSkEntry& from) {
  const image::IpOptsEntry& ip = from.ip_opts();
  if (from.family() == AF_INET) {
    if (ip.pktinfo()) set_option(fd, IPPROTO_IP, IP_PKTINFO, 1);
    if (ip.has_tos()) set_option(fd, IPPROTO_IP, IP_TOS, static_cast<int>(ip.tos()));
    if (ip.ttl() != 0) set_option(fd, IPPROTO_IP, IP_TTL, static_cast<int>(ip.ttl()));
  } else if (ip.pktinfo()) {
    set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  }
  if (from.type() == SOCK_STREAM) restore_tcp(fd, from.tcp_opts());
}

}  // namespace godwit::engine::resources
