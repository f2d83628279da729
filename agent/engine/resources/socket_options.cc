#include "agent/engine/resources/socket_options.h"

#include "agent/engine/resources/inet_diag.h"
#include "common/base/log.h"

#include <algorithm>
#include <array>
#include <cstring>

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace godwit::engine::resources {
namespace {

// asm-generic/socket.h, newer than libc's copy.
constexpr int so_buf_lock = 72, so_timestamp_new = 63, so_timestampns_new = 64, so_timestamping_new = 65,
              so_prefer_busy_poll = 69, so_reserve_mem = 73, so_txrehash = 74, so_rcvmark = 75, so_passpidfd = 76,
              so_rcvpriority = 82, so_passrights = 83;
constexpr int so_get_filter = 26;
// linux/in.h and linux/in6.h, which clash with <netinet/in.h>
constexpr int ip_recverr_rfc4884 = 26, ip_local_port_range = 51;
constexpr int ipv6_flowinfo = 11, ipv6_multicast_all = 29, ipv6_router_alert_isolate = 30, ipv6_recverr_rfc4884 = 31,
              ipv6_flowinfo_send = 33, ipv6_addr_preferences = 72, ipv6_minhopcount = 73, ipv6_recvorigdstaddr = 74,
              ipv6_unicast_if = 76, ipv6_recvfragsize = 77;
// linux/tcp.h
constexpr int tcp_fastopen_no_cookie = 34, tcp_tx_delay = 37, tcp_ao_info = 40, tcp_rto_max_ms = 44,
              tcp_rto_min_us = 45, tcp_delack_max_us = 46;

// IPv6 sockets have the options of IPv4, too: for what comes to a mapped address.
enum class Family { any = 1, ip, inet6, tcp, udp };

struct OtherOption {
  Family family;
  int level;
  int name;
  std::string_view text;
};

// Read back what can be set, so that value in = value out.
constexpr auto others = std::to_array<OtherOption>({
    {Family::any, SOL_SOCKET, SO_TIMESTAMP, "SO_TIMESTAMP"},
    {Family::any, SOL_SOCKET, SO_TIMESTAMPNS, "SO_TIMESTAMPNS"},
    {Family::any, SOL_SOCKET, SO_RXQ_OVFL, "SO_RXQ_OVFL"},
    {Family::any, SOL_SOCKET, SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE"},
    {Family::any, SOL_SOCKET, SO_BUSY_POLL, "SO_BUSY_POLL"},
    {Family::any, SOL_SOCKET, SO_PEEK_OFF, "SO_PEEK_OFF"},
    {Family::any, SOL_SOCKET, SO_ZEROCOPY, "SO_ZEROCOPY"},
    {Family::any, SOL_SOCKET, SO_NO_CHECK, "SO_NO_CHECK"},
    {Family::any, SOL_SOCKET, SO_DEBUG, "SO_DEBUG"},
    {Family::any, SOL_SOCKET, SO_LOCK_FILTER, "SO_LOCK_FILTER"},
    {Family::any, SOL_SOCKET, SO_WIFI_STATUS, "SO_WIFI_STATUS"},
    {Family::any, SOL_SOCKET, SO_NOFCS, "SO_NOFCS"},
    {Family::any, SOL_SOCKET, SO_SELECT_ERR_QUEUE, "SO_SELECT_ERR_QUEUE"},
    {Family::any, SOL_SOCKET, SO_INCOMING_CPU, "SO_INCOMING_CPU"},
    {Family::any, SOL_SOCKET, SO_TXTIME, "SO_TXTIME"},
    {Family::any, SOL_SOCKET, SO_TIMESTAMPING, "SO_TIMESTAMPING"},
    {Family::any, SOL_SOCKET, so_timestamp_new, "SO_TIMESTAMP_NEW"},  // after the old ones: it changes their form
    {Family::any, SOL_SOCKET, so_timestampns_new, "SO_TIMESTAMPNS_NEW"},
    {Family::any, SOL_SOCKET, so_timestamping_new, "SO_TIMESTAMPING_NEW"},
    {Family::any, SOL_SOCKET, so_prefer_busy_poll, "SO_PREFER_BUSY_POLL"},
    {Family::any, SOL_SOCKET, so_reserve_mem, "SO_RESERVE_MEM"},
    {Family::any, SOL_SOCKET, so_txrehash, "SO_TXREHASH"},
    {Family::any, SOL_SOCKET, so_rcvmark, "SO_RCVMARK"},
    {Family::any, SOL_SOCKET, so_rcvpriority, "SO_RCVPRIORITY"},
    {Family::any, SOL_SOCKET, so_passpidfd, "SO_PASSPIDFD"},
    {Family::any, SOL_SOCKET, so_passrights, "SO_PASSRIGHTS"},
    {Family::ip, IPPROTO_IP, IP_OPTIONS, "IP_OPTIONS"},
    {Family::ip, IPPROTO_IP, IP_RETOPTS, "IP_RETOPTS"},
    {Family::ip, IPPROTO_IP, IP_PASSSEC, "IP_PASSSEC"},
    {Family::ip, IPPROTO_IP, IP_CHECKSUM, "IP_CHECKSUM"},
    {Family::ip, IPPROTO_IP, IP_RECVFRAGSIZE, "IP_RECVFRAGSIZE"},
    {Family::ip, IPPROTO_IP, ip_recverr_rfc4884, "IP_RECVERR_RFC4884"},
    {Family::ip, IPPROTO_IP, IP_TOS, "IP_TOS"},
    {Family::ip, IPPROTO_IP, IP_TTL, "IP_TTL"},
    {Family::ip, IPPROTO_IP, IP_MINTTL, "IP_MINTTL"},
    {Family::ip, IPPROTO_IP, IP_MTU_DISCOVER, "IP_MTU_DISCOVER"},
    {Family::ip, IPPROTO_IP, IP_RECVERR, "IP_RECVERR"},
    {Family::ip, IPPROTO_IP, IP_PKTINFO, "IP_PKTINFO"},
    {Family::ip, IPPROTO_IP, IP_RECVTTL, "IP_RECVTTL"},
    {Family::ip, IPPROTO_IP, IP_RECVTOS, "IP_RECVTOS"},
    {Family::ip, IPPROTO_IP, IP_RECVOPTS, "IP_RECVOPTS"},
    {Family::ip, IPPROTO_IP, IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR"},
    {Family::ip, IPPROTO_IP, IP_TRANSPARENT, "IP_TRANSPARENT"},
    {Family::ip, IPPROTO_IP, IP_MULTICAST_TTL, "IP_MULTICAST_TTL"},
    {Family::ip, IPPROTO_IP, IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP"},
    {Family::ip, IPPROTO_IP, IP_MULTICAST_ALL, "IP_MULTICAST_ALL"},
    {Family::ip, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, "IP_BIND_ADDRESS_NO_PORT"},
    {Family::ip, IPPROTO_IP, ip_local_port_range, "IP_LOCAL_PORT_RANGE"},
    {Family::inet6, IPPROTO_IPV6, IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS"},
    {Family::inet6, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS"},
    {Family::inet6, IPPROTO_IPV6, IPV6_MULTICAST_LOOP, "IPV6_MULTICAST_LOOP"},
    {Family::inet6, IPPROTO_IPV6, IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER"},
    {Family::inet6, IPPROTO_IPV6, IPV6_RECVERR, "IPV6_RECVERR"},
    {Family::inet6, IPPROTO_IPV6, IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO"},
    {Family::inet6, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT"},
    {Family::inet6, IPPROTO_IPV6, IPV6_RECVTCLASS, "IPV6_RECVTCLASS"},
    {Family::inet6, IPPROTO_IPV6, IPV6_TCLASS, "IPV6_TCLASS"},
    {Family::inet6, IPPROTO_IPV6, IPV6_AUTOFLOWLABEL, "IPV6_AUTOFLOWLABEL"},
    {Family::inet6, IPPROTO_IPV6, IPV6_2292PKTINFO, "IPV6_2292PKTINFO"},
    {Family::inet6, IPPROTO_IPV6, IPV6_2292HOPOPTS, "IPV6_2292HOPOPTS"},
    {Family::inet6, IPPROTO_IPV6, IPV6_2292DSTOPTS, "IPV6_2292DSTOPTS"},
    {Family::inet6, IPPROTO_IPV6, IPV6_2292RTHDR, "IPV6_2292RTHDR"},
    {Family::inet6, IPPROTO_IPV6, IPV6_2292HOPLIMIT, "IPV6_2292HOPLIMIT"},
    {Family::inet6, IPPROTO_IPV6, IPV6_RECVHOPOPTS, "IPV6_RECVHOPOPTS"},
    {Family::inet6, IPPROTO_IPV6, IPV6_RECVRTHDR, "IPV6_RECVRTHDR"},
    {Family::inet6, IPPROTO_IPV6, IPV6_RECVDSTOPTS, "IPV6_RECVDSTOPTS"},
    {Family::inet6, IPPROTO_IPV6, IPV6_RECVPATHMTU, "IPV6_RECVPATHMTU"},
    {Family::inet6, IPPROTO_IPV6, IPV6_DONTFRAG, "IPV6_DONTFRAG"},
    {Family::inet6, IPPROTO_IPV6, ipv6_flowinfo, "IPV6_FLOWINFO"},
    {Family::inet6, IPPROTO_IPV6, ipv6_router_alert_isolate, "IPV6_ROUTER_ALERT_ISOLATE"},
    {Family::inet6, IPPROTO_IPV6, ipv6_multicast_all, "IPV6_MULTICAST_ALL"},
    {Family::inet6, IPPROTO_IPV6, ipv6_recverr_rfc4884, "IPV6_RECVERR_RFC4884"},
    {Family::inet6, IPPROTO_IPV6, ipv6_flowinfo_send, "IPV6_FLOWINFO_SEND"},
    {Family::inet6, IPPROTO_IPV6, ipv6_addr_preferences, "IPV6_ADDR_PREFERENCES"},
    {Family::inet6, IPPROTO_IPV6, ipv6_minhopcount, "IPV6_MINHOPCOUNT"},
    {Family::inet6, IPPROTO_IPV6, ipv6_recvorigdstaddr, "IPV6_RECVORIGDSTADDR"},
    {Family::inet6, IPPROTO_IPV6, ipv6_recvfragsize, "IPV6_RECVFRAGSIZE"},
    {Family::tcp, IPPROTO_TCP, TCP_CONGESTION, "TCP_CONGESTION"},  // before TCP_NODELAY: some set their own defaults
    {Family::tcp, IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY"},
    {Family::tcp, IPPROTO_TCP, TCP_CORK, "TCP_CORK"},
    {Family::tcp, IPPROTO_TCP, TCP_MAXSEG, "TCP_MAXSEG"},
    {Family::tcp, IPPROTO_TCP, TCP_SYNCNT, "TCP_SYNCNT"},
    {Family::tcp, IPPROTO_TCP, TCP_LINGER2, "TCP_LINGER2"},
    {Family::tcp, IPPROTO_TCP, TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT"},
    {Family::tcp, IPPROTO_TCP, TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP"},
    {Family::tcp, IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"},
    {Family::tcp, IPPROTO_TCP, TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT"},
    {Family::tcp, IPPROTO_TCP, TCP_SAVE_SYN, "TCP_SAVE_SYN"},
    {Family::tcp, IPPROTO_TCP, TCP_FASTOPEN, "TCP_FASTOPEN"},
    {Family::tcp, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, "TCP_FASTOPEN_CONNECT"},
    {Family::tcp, IPPROTO_TCP, TCP_INQ, "TCP_INQ"},
    {Family::tcp, IPPROTO_TCP, TCP_QUICKACK, "TCP_QUICKACK"},
    {Family::tcp, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, "TCP_THIN_LINEAR_TIMEOUTS"},
    {Family::tcp, IPPROTO_TCP, tcp_fastopen_no_cookie, "TCP_FASTOPEN_NO_COOKIE"},
    {Family::tcp, IPPROTO_TCP, tcp_tx_delay, "TCP_TX_DELAY"},
    {Family::tcp, IPPROTO_TCP, tcp_rto_max_ms, "TCP_RTO_MAX_MS"},
    {Family::tcp, IPPROTO_TCP, tcp_rto_min_us, "TCP_RTO_MIN_US"},
    {Family::tcp, IPPROTO_TCP, tcp_delack_max_us, "TCP_DELACK_MAX_US"},
    {Family::udp, IPPROTO_UDP, UDP_ENCAP, "UDP_ENCAP"},
    {Family::udp, IPPROTO_UDP, UDP_NO_CHECK6_TX, "UDP_NO_CHECK6_TX"},
    {Family::udp, IPPROTO_UDP, UDP_NO_CHECK6_RX, "UDP_NO_CHECK6_RX"},
    {Family::udp, IPPROTO_UDP, UDP_SEGMENT, "UDP_SEGMENT"},
    {Family::udp, IPPROTO_UDP, UDP_GRO, "UDP_GRO"},
});

// What names an interface of this host by number or address, or is longer than an option of the table may be.
constexpr auto refused = std::to_array<OtherOption>({
    {Family::ip, IPPROTO_IP, IP_MULTICAST_IF, "IP_MULTICAST_IF"},
    {Family::ip, IPPROTO_IP, IP_UNICAST_IF, "IP_UNICAST_IF"},
    {Family::inet6, IPPROTO_IPV6, IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF"},
    {Family::inet6, IPPROTO_IPV6, ipv6_unicast_if, "IPV6_UNICAST_IF"},
    {Family::inet6, IPPROTO_IPV6, IPV6_HOPOPTS, "IPV6_HOPOPTS"},
    {Family::inet6, IPPROTO_IPV6, IPV6_RTHDRDSTOPTS, "IPV6_RTHDRDSTOPTS"},
    {Family::inet6, IPPROTO_IPV6, IPV6_RTHDR, "IPV6_RTHDR"},
    {Family::inet6, IPPROTO_IPV6, IPV6_DSTOPTS, "IPV6_DSTOPTS"},
});

bool inet_stream(const SocketType& socket) { return socket.domain != AF_UNIX && socket.type == SOCK_STREAM; }

bool applies(const OtherOption& option, const SocketType& socket) {
  switch (option.family) {
    case Family::any: return true;
    case Family::ip: return socket.domain == AF_INET || socket.domain == AF_INET6;
    case Family::inet6: return socket.domain == AF_INET6;
    case Family::tcp: return inet_stream(socket);
    case Family::udp: return socket.domain != AF_UNIX && socket.type == SOCK_DGRAM;
  }
  return false;
}

std::optional<std::string> read_raw(int fd, int level, int name) {
  std::array<char, 64> value{};
  socklen_t size = value.size();
  if (::getsockopt(fd, level, name, value.data(), &size) != 0) return std::nullopt;  // not of this kernel
  return std::string(value.data(), size);
}

std::string_view text_of(int level, int name) {
  for (const OtherOption& option : others) {
    if (option.level == level && option.name == name) return option.text;
  }
  return "unknown";
}

bool has_keys(const FdView& view) {
  if (!inet_stream(*view.socket)) return false;
  // ENOENT without keys, ENOPROTOOPT on a kernel that knows none.
  return read_raw(view.fd, IPPROTO_TCP, tcp_ao_info) || has_md5_keys(view);
}

void restore_raw(int fd, const image::SkOptionEntry& option) {
  const int level = static_cast<int>(option.level());
  const int name = static_cast<int>(option.name());
  if (read_raw(fd, level, name) == option.value()) return;
  if (::setsockopt(fd, level, name, option.value().data(), static_cast<socklen_t>(option.value().size())) == 0) return;
  log::warn("restore.socket_option", {{"option", text_of(level, name)}, {"error", std::strerror(errno)}});
}

// The kernel doubles what is set, and reports the double.
void restore_buffer(int fd, int name, int force, std::uint32_t size) {
  if (static_cast<std::uint32_t>(get_option(fd, SOL_SOCKET, name)) == size) return;
  set_option(fd, SOL_SOCKET, force, static_cast<int>(size / 2));
}

// Before 6.16 every socket had SO_PASSCRED and SO_PASSSEC, since then only those that can be passed something: there,
// what was off is not asked for.
void set_if_different(int fd, int level, int name, int value) {
  int now = 0;
  socklen_t size = sizeof now;
  if (value == 0 && ::getsockopt(fd, level, name, &now, &size) < 0 && errno == EOPNOTSUPP) return;
  if (get_option(fd, level, name) != value) set_option(fd, level, name, value);
}

}  // namespace

int get_option(int fd, int level, int name) {
  int value = 0;
  socklen_t size = sizeof value;
  check(::getsockopt(fd, level, name, &value, &size), "read socket option {}:{}", level, name);
  return value;
}

void set_option(int fd, int level, int name, int value) {
  check(::setsockopt(fd, level, name, &value, sizeof value), "set socket option {}:{} to {}", level, name, value);
}

image::SkOptsEntry dump_socket_options(const FdView& view, OptionSet set) {
  const auto get = [&](int name) { return static_cast<std::uint32_t>(get_option(view.fd, SOL_SOCKET, name)); };
  image::SkOptsEntry options;
  options.set_so_sndbuf(get(SO_SNDBUF));
  options.set_so_rcvbuf(get(SO_RCVBUF));
  timeval limit{};
  socklen_t size = sizeof limit;
  check(::getsockopt(view.fd, SOL_SOCKET, SO_SNDTIMEO, &limit, &size), "read a socket's send timeout");
  options.set_so_snd_tmo_sec(static_cast<std::uint64_t>(limit.tv_sec));
  options.set_so_snd_tmo_usec(static_cast<std::uint64_t>(limit.tv_usec));
  size = sizeof limit;
  check(::getsockopt(view.fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &size), "read a socket's receive timeout");
  options.set_so_rcv_tmo_sec(static_cast<std::uint64_t>(limit.tv_sec));
  options.set_so_rcv_tmo_usec(static_cast<std::uint64_t>(limit.tv_usec));
  if (set == OptionSet::required) return options;
  options.set_reuseaddr(get(SO_REUSEADDR) != 0);
  options.set_so_priority(get(SO_PRIORITY));
  options.set_so_rcvlowat(get(SO_RCVLOWAT));
  options.set_so_mark(get(SO_MARK));
  options.set_so_dontroute(get(SO_DONTROUTE) != 0);
  options.set_so_keepalive(get(SO_KEEPALIVE) != 0);
  options.set_so_oobinline(get(SO_OOBINLINE));
  options.set_so_broadcast(get(SO_BROADCAST) != 0);
  linger linger_{};
  size = sizeof linger_;
  check(::getsockopt(view.fd, SOL_SOCKET, SO_LINGER, &linger_, &size), "read a socket's lingering");
  if (linger_.l_onoff != 0) options.set_so_linger(static_cast<std::uint32_t>(linger_.l_linger));
  options.set_so_buf_lock(get(so_buf_lock));
  const SocketType& socket = view.socket.value();
  if (socket.domain == AF_UNIX) {
    options.set_so_passcred(get(SO_PASSCRED) != 0);
    options.set_so_passsec(get(SO_PASSSEC) != 0);
  } else {
    options.set_so_reuseport(get(SO_REUSEPORT) != 0);
    options.set_so_no_check(get(SO_NO_CHECK) != 0);
    std::array<char, 16> device{};
    size = device.size();
    check(::getsockopt(view.fd, SOL_SOCKET, SO_BINDTODEVICE, device.data(), &size), "read a socket's device");
    if (size > 0 && device[0] != '\0') options.set_so_bound_dev(device.data());
    if (socket.type == SOCK_STREAM) {
      options.set_tcp_keepcnt(static_cast<std::uint32_t>(get_option(view.fd, IPPROTO_TCP, TCP_KEEPCNT)));
      options.set_tcp_keepidle(static_cast<std::uint32_t>(get_option(view.fd, IPPROTO_TCP, TCP_KEEPIDLE)));
      options.set_tcp_keepintvl(static_cast<std::uint32_t>(get_option(view.fd, IPPROTO_TCP, TCP_KEEPINTVL)));
    }
  }
  const auto keep = [&](int level, int name) {
    const std::optional<std::string> value = read_raw(view.fd, level, name);
    if (!value) return;
    image::SkOptionEntry& entry = *options.add_more();
    entry.set_level(static_cast<std::uint32_t>(level));
    entry.set_name(static_cast<std::uint32_t>(name));
    entry.set_value(*value);
  };
  for (const OtherOption& option : others)
    if (applies(option, socket)) keep(option.level, option.name);
  // Else it is this host's key, if any, that is read.
  if (inet_stream(socket) && get_option(view.fd, IPPROTO_TCP, TCP_FASTOPEN) > 0) keep(IPPROTO_TCP, TCP_FASTOPEN_KEY);
  return options;
}

void restore_options_before_bind(int fd, const image::SkOptsEntry& options) {
  // Connections that linger in TIME_WAIT must not stand in the way; among datagram sockets it would mean sharing.
  const bool stream = get_option(fd, SOL_SOCKET, SO_TYPE) == SOCK_STREAM;
  if (stream || options.reuseaddr()) set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  if (options.so_reuseport()) set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  if (options.has_so_bound_dev()) {
    const std::string& device = options.so_bound_dev();
    check(::setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device.data(), static_cast<socklen_t>(device.size())),
          "bind to device {}", device);
  }
  for (const image::SkOptionEntry& option : options.more()) {
    const bool early =
        (option.level() == IPPROTO_IP && (option.name() == IP_TRANSPARENT || option.name() == IP_BIND_ADDRESS_NO_PORT ||
                                          option.name() == ip_local_port_range));
    if (early) restore_raw(fd, option);
  }
}

void restore_socket_options(int fd, const image::SkOptsEntry& options) {
  const auto set = [&](int name, std::uint32_t value) {
    set_if_different(fd, SOL_SOCKET, name, static_cast<int>(value));
  };
  restore_buffer(fd, SO_SNDBUF, SO_SNDBUFFORCE, options.so_sndbuf());
  restore_buffer(fd, SO_RCVBUF, SO_RCVBUFFORCE, options.so_rcvbuf());
  timeval limit{static_cast<time_t>(options.so_snd_tmo_sec()), static_cast<suseconds_t>(options.so_snd_tmo_usec())};
  check(::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), "set a socket's send timeout");
  limit = {static_cast<time_t>(options.so_rcv_tmo_sec()), static_cast<suseconds_t>(options.so_rcv_tmo_usec())};
  check(::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), "set a socket's receive timeout");
  if (options.has_reuseaddr()) set(SO_REUSEADDR, options.reuseaddr());
  if (options.has_so_priority()) set(SO_PRIORITY, options.so_priority());
  if (options.has_so_rcvlowat()) set(SO_RCVLOWAT, options.so_rcvlowat());
  if (options.has_so_mark()) set(SO_MARK, options.so_mark());
  if (options.has_so_dontroute()) set(SO_DONTROUTE, options.so_dontroute());
  if (options.has_so_keepalive()) set(SO_KEEPALIVE, options.so_keepalive());
  if (options.has_so_oobinline()) set(SO_OOBINLINE, options.so_oobinline());
  if (options.has_so_broadcast()) set(SO_BROADCAST, options.so_broadcast());
  if (options.has_so_linger()) {
    const linger linger_{1, static_cast<int>(options.so_linger())};
    check(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger_, sizeof linger_), "set a socket's lingering");
  }
  if (options.has_so_passcred()) set(SO_PASSCRED, options.so_passcred());
  if (options.has_so_passsec()) set(SO_PASSSEC, options.so_passsec());
  if (options.has_so_no_check()) set(SO_NO_CHECK, options.so_no_check());
  const auto set_tcp = [&](int name, std::uint32_t value) {
    set_if_different(fd, IPPROTO_TCP, name, static_cast<int>(value));
  };
  if (options.has_tcp_keepcnt()) set_tcp(TCP_KEEPCNT, options.tcp_keepcnt());
  if (options.has_tcp_keepidle()) set_tcp(TCP_KEEPIDLE, options.tcp_keepidle());
  if (options.has_tcp_keepintvl()) set_tcp(TCP_KEEPINTVL, options.tcp_keepintvl());
  for (const image::SkOptionEntry& option : options.more()) restore_raw(fd, option);
  // Last: setting a buffer's size has locked it.
  if (options.has_so_buf_lock()) set(so_buf_lock, options.so_buf_lock());
}

std::optional<Refusal> refuse_socket(const FdView& view, SurveyContext& context) {
  if (context.network == 0) {
    struct stat task_ns{};
    check(::stat(fmt::format("/proc/{}/ns/net", view.pid).c_str(), &task_ns), "stat the network namespace of task {}",
          view.pid);
    context.network = task_ns.st_ino;
  }
  const UniqueFd of_socket(::ioctl(view.fd, SIOCGSKNS));
  struct stat socket_ns{};
  check(of_socket.get(), "find the network namespace of {}", view.describe());
  check(::fstat(of_socket.get(), &socket_ns), "stat a network namespace");
  if (socket_ns.st_ino != context.network) {
    return Refusal{view.describe(), "the socket belongs to another network namespace than its task",
                   "close the socket, or run the task inside that namespace"};
  }
  socklen_t instructions = 0;
  if (::getsockopt(view.fd, SOL_SOCKET, so_get_filter, nullptr, &instructions) != 0 || instructions != 0) {
    return Refusal{view.describe(), "a packet filter (BPF) is attached to the socket",
                   "detach the filter before moving"};
  }
  for (const OtherOption& option : refused) {
    if (!applies(option, *view.socket)) continue;
    const std::optional<std::string> value = read_raw(view.fd, option.level, option.name);
    if (value && std::ranges::any_of(*value, [](char byte) { return byte != 0; }))
      return Refusal{view.describe(), fmt::format("the option {} is not carried", option.text),
                     "let the task take it back, or bind to a device (SO_BINDTODEVICE)"};
  }
  if (has_keys(view))
    return Refusal{view.describe(), "the keys for signed segments (TCP_MD5SIG, TCP_AO) are not carried",
                   "remove them before the move"};
  return std::nullopt;
}

}  // namespace godwit::engine::resources
