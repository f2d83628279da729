// Checks: TCP sockets that listen (IPv4, IPv6, both, two on one port) or are merely bound or made: addresses, options,
// backlog, and that clients still get through.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

struct Option {
  int level, name;
  const char* text;
};
#define OPTION(level, name) {level, name, #name}
constexpr Option options[] = {OPTION(SOL_SOCKET, SO_REUSEADDR),    OPTION(SOL_SOCKET, SO_REUSEPORT),
                              OPTION(SOL_SOCKET, SO_KEEPALIVE),    OPTION(SOL_SOCKET, SO_LINGER),
                              OPTION(SOL_SOCKET, SO_RCVBUF),       OPTION(SOL_SOCKET, SO_SNDBUF),
                              OPTION(SOL_SOCKET, SO_PRIORITY),     OPTION(SOL_SOCKET, SO_MARK),
                              OPTION(SOL_SOCKET, SO_RCVTIMEO),     OPTION(SOL_SOCKET, SO_SNDTIMEO),
                              OPTION(SOL_SOCKET, SO_RCVLOWAT),     OPTION(SOL_SOCKET, SO_OOBINLINE),
                              OPTION(SOL_SOCKET, SO_DONTROUTE),    OPTION(SOL_SOCKET, SO_ACCEPTCONN),
                              OPTION(SOL_SOCKET, SO_BINDTODEVICE), OPTION(SOL_SOCKET, SO_BUF_LOCK),
                              OPTION(IPPROTO_IP, IP_TOS),          OPTION(IPPROTO_IP, IP_TTL),
                              OPTION(IPPROTO_IP, IP_FREEBIND),     OPTION(IPPROTO_TCP, TCP_NODELAY),
                              OPTION(IPPROTO_TCP, TCP_KEEPIDLE),   OPTION(IPPROTO_TCP, TCP_KEEPINTVL),
                              OPTION(IPPROTO_TCP, TCP_KEEPCNT),    OPTION(IPPROTO_TCP, TCP_DEFER_ACCEPT),
                              OPTION(IPPROTO_TCP, TCP_SYNCNT),     OPTION(IPPROTO_TCP, TCP_USER_TIMEOUT),
                              OPTION(IPPROTO_TCP, TCP_MAXSEG),     OPTION(IPPROTO_TCP, TCP_CONGESTION),
                              OPTION(IPPROTO_TCP, TCP_FASTOPEN),   OPTION(IPPROTO_TCP, TCP_NOTSENT_LOWAT),
                              OPTION(IPPROTO_TCP, TCP_LINGER2),    OPTION(IPPROTO_TCP, TCP_WINDOW_CLAMP),
                              OPTION(IPPROTO_IPV6, IPV6_V6ONLY),   OPTION(IPPROTO_IPV6, IPV6_TCLASS)};

std::string bytes_of(int fd, const Option& option) {
  char value[64] = {};
  socklen_t size = sizeof value;
  if (getsockopt(fd, option.level, option.name, value, &size) != 0) return "none";
  std::string text;
  for (socklen_t i = 0; i < size; ++i) {
    char digits[4];
    std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(value[i]));
    text += digits;
  }
  return text;
}

void set(int fd, int level, int name, int value) {
  must(setsockopt(fd, level, name, &value, sizeof value), "setsockopt");
}

struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  bool operator==(const Address& o) const { return size == o.size && std::memcmp(&storage, &o.storage, size) == 0; }
};

Address name_of(int fd) {
  Address address;
  getsockname(fd, address.get(), &address.size);
  return address;
}

int bound(int family, bool only_v6, Address* same = nullptr) {
  const int fd = must(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  if (family == AF_INET6) set(fd, IPPROTO_IPV6, IPV6_V6ONLY, only_v6);
  if (same != nullptr) {
    set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (name_of(fd).get()->sa_family == same->get()->sa_family && same->size != sizeof(sockaddr_storage)) {
      must(bind(fd, same->get(), same->size), "bind");
      return fd;
    }
  }
  Address address;
  if (family == AF_INET) {
    const sockaddr_in any{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    std::memcpy(&address.storage, &any, address.size = sizeof any);
  } else {
    const sockaddr_in6 any{.sin6_family = AF_INET6, .sin6_addr = only_v6 ? in6addr_loopback : in6addr_any};
    std::memcpy(&address.storage, &any, address.size = sizeof any);
  }
  must(bind(fd, address.get(), address.size), "bind");
  if (same != nullptr) *same = name_of(fd);
  return fd;
}

unsigned backlog_of(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
  return info.tcpi_sacked;  // of a listener: the limit of its queue
}

struct Socket {
  int fd;
  const char* name;
  bool listens;
  Address address{};
  unsigned backlog = 0;
  std::vector<std::string> options{};
  std::map<std::string, std::string> all_options{};
};

void remember(Socket& s) {
  s.address = name_of(s.fd);
  s.backlog = backlog_of(s.fd);
  for (const Option& option : options) s.options.push_back(bytes_of(s.fd, option));
  s.all_options = socket_options(s.fd);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  signal(SIGPIPE, SIG_IGN);
  const int plain = bound(AF_INET, false);
  must(listen(plain, 7), "listen");
  const int v6 = bound(AF_INET6, true);
  must(listen(v6, 100), "listen");
  const int dual = bound(AF_INET6, false);
  must(listen(dual, 5), "listen");
  Address same;
  const int twin_one = bound(AF_INET, false, &same);
  const int twin_two = bound(AF_INET, false, &same);
  must(listen(twin_one, 3), "listen");
  must(listen(twin_two, 4), "listen");
  const int only_bound = bound(AF_INET, false);
  const int unbound = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");

  const int tuned = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
  const Option numbers[] = {OPTION(SOL_SOCKET, SO_REUSEADDR), OPTION(SOL_SOCKET, SO_KEEPALIVE),
                            OPTION(SOL_SOCKET, SO_OOBINLINE), OPTION(IPPROTO_TCP, TCP_NODELAY)};
  for (const Option& option : numbers) set(tuned, option.level, option.name, 1);
  set(tuned, SOL_SOCKET, SO_RCVBUF, 30'000);
  set(tuned, SOL_SOCKET, SO_SNDBUF, 50'000);
  set(tuned, SOL_SOCKET, SO_PRIORITY, 4);
  set(tuned, SOL_SOCKET, SO_RCVLOWAT, 3);
  set(tuned, IPPROTO_IP, IP_TOS, 0x28);
  set(tuned, IPPROTO_IP, IP_TTL, 33);
  set(tuned, IPPROTO_IP, IP_FREEBIND, 1);
  set(tuned, IPPROTO_TCP, TCP_KEEPIDLE, 111);
  set(tuned, IPPROTO_TCP, TCP_KEEPINTVL, 22);
  set(tuned, IPPROTO_TCP, TCP_KEEPCNT, 3);
  if (!w.beside_criu()) {
    set(tuned, IPPROTO_TCP, TCP_SYNCNT, 2);
    set(tuned, IPPROTO_TCP, TCP_USER_TIMEOUT, 44'000);
    set(tuned, IPPROTO_TCP, TCP_MAXSEG, 1200);
    set(tuned, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 5000);
    set(tuned, IPPROTO_TCP, TCP_LINGER2, 17);
    set(tuned, IPPROTO_TCP, TCP_FASTOPEN, 7);
    set(tuned, SOL_SOCKET, SO_TIMESTAMP, 1);
    set(tuned, SOL_SOCKET, SO_MAX_PACING_RATE, 1'000'000);
    set(tuned, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO);
    set(tuned, IPPROTO_IP, IP_RECVERR, 1);
    set(tuned, IPPROTO_IP, IP_MINTTL, 5);
    set(tuned, IPPROTO_IP, IP_RECVTTL, 1);
  }
  const linger lingering{1, 9};
  must(setsockopt(tuned, SOL_SOCKET, SO_LINGER, &lingering, sizeof lingering), "SO_LINGER");
  const timeval limit{12, 340'000};
  must(setsockopt(tuned, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), "SO_RCVTIMEO");
  must(setsockopt(tuned, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit), "SO_SNDTIMEO");
  const sockaddr_in loopback{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  must(bind(tuned, reinterpret_cast<const sockaddr*>(&loopback), sizeof loopback), "bind");
  must(listen(tuned, 11), "listen");

  Socket sockets[] = {{plain, "the plain listener", true},
                      {v6, "the IPv6 listener", true},
                      {dual, "the dual listener", true},
                      {twin_one, "the first of two on a port", true},
                      {twin_two, "the second of two on a port", true},
                      {tuned, "the listener with options", true},
                      {only_bound, "the bound socket", false},
                      {unbound, "the unbound socket", false}};
  for (Socket& s : sockets) remember(s);

  w.ready();
  w.wait_for_verify();

  for (Socket& s : sockets) {
    w.check(name_of(s.fd) == s.address, "%s has another address", s.name);
    struct stat about{};
    w.check(fstat(s.fd, &about) == 0 && about.st_uid == geteuid(), "%s belongs to user %u", s.name, about.st_uid);
    w.check(!s.listens || backlog_of(s.fd) == s.backlog, "%s has a backlog of %u, had %u", s.name, backlog_of(s.fd),
            s.backlog);
    for (std::size_t i = 0; i < std::size(options); ++i) {
      const std::string now = bytes_of(s.fd, options[i]);
      w.check(now == s.options[i], "%s: %s was %s and is %s", s.name, options[i].text, s.options[i].c_str(),
              now.c_str());
    }
  }
  for (const Socket& s : sockets)
    if (!w.beside_criu()) compare_options(w, s.name, s.all_options, s.fd);
  w.check((fcntl(tuned, F_GETFL) & O_NONBLOCK) != 0 && (fcntl(plain, F_GETFL) & O_NONBLOCK) == 0 &&
              fcntl(unbound, F_GETFD) == 0,
          "flags of sockets changed");
  for (Socket& s : sockets) {
    if (!s.listens) continue;
    const int client = socket(s.address.get()->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    w.check(connect(client, s.address.get(), s.address.size) == 0, "connecting to %s: %m", s.name);
    // Of two on one port the kernel picks one.
    pollfd ready[2] = {{s.fd, POLLIN, 0}, {s.fd == twin_one ? twin_two : s.fd == twin_two ? twin_one : -1, POLLIN, 0}};
    if (!w.check(poll(ready, 2, 3000) == 1, "%s sees no client", s.name)) continue;
    const int accepted = accept4(ready[0].revents != 0 ? ready[0].fd : ready[1].fd, nullptr, nullptr, SOCK_CLOEXEC);
    char got[4];
    w.check(write(client, "ping", 4) == 4 && readable(accepted) && recv(accepted, got, 4, MSG_WAITALL) == 4 &&
                std::memcmp(got, "ping", 4) == 0,
            "%s: the connection carries nothing", s.name);
    close(client);
    close(accepted);
  }
  w.check(listen(only_bound, 1) == 0, "the bound socket cannot listen: %m");
  w.check(connect(unbound, sockets[0].address.get(), sockets[0].address.size) == -1 && errno == EINPROGRESS,
          "the unbound socket: %m");
  return w.finish();
}
