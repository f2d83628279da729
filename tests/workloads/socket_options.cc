// Checks: all options of sockets that can be set at all, each of them set: TCP and UDP of both families, unix.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cstdio>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <set>
#include <sys/socket.h>

using namespace godwit::workloads;

namespace {

struct Level {
  int level, last;
  // What names an interface or has no end by itself (UDP_CORK) is refused, what turns the socket into another one
  // (IPV6_ADDRFORM) or is of a connection is nothing to keep.
  std::set<int> left_out;
};
const Level levels[] = {{SOL_SOCKET, 90, {}},
                        {IPPROTO_IP, 55, {IP_MULTICAST_IF, IP_UNICAST_IF}},
                        {IPPROTO_IPV6,
                         80,
                         {IPV6_ADDRFORM, IPV6_MULTICAST_IF, IPV6_HOPOPTS, IPV6_RTHDRDSTOPTS, IPV6_RTHDR, IPV6_DSTOPTS,
                          76 /* IPV6_UNICAST_IF */}},
                        {IPPROTO_TCP, 50, {TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, TCP_ULP}},
                        {IPPROTO_UDP, 110, {UDP_CORK}}};

std::string value_of(int fd, int level, int name) {
  char value[128] = {};
  socklen_t size = sizeof value;
  return getsockopt(fd, level, name, value, &size) == 0 ? std::string(value, size) : "";
}

// The first of some numbers that makes the option another one than it was. Whether any does.
bool change(int fd, int level, int name) {
  const std::string before = value_of(fd, level, name);
  if (before.empty()) return false;
  for (const int value : {1, 2, 0, 5, 300, 1000, 70'000})
    if (setsockopt(fd, level, name, &value, sizeof value) == 0 && value_of(fd, level, name) != before) return true;
  return false;
}

struct Socket {
  const char* name;
  int domain, type;
  bool listens;
  int least;  // options that every kernel since 6.1 has
  int fd = -1;
  std::map<std::string, std::string> options{};
};

// A unix socket can be bound to a device, which has no meaning.
bool without_device(const Socket& s, int level, int name) {
  return s.domain == AF_UNIX && level == SOL_SOCKET && (name == SO_BINDTODEVICE || name == 62 /* SO_BINDTOIFINDEX */);
}

void make(Socket& s) {
  s.fd = must(socket(s.domain, s.type | SOCK_CLOEXEC, 0), "socket");
  const sockaddr_in v4{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  const sockaddr_in6 v6{.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
  if (s.domain == AF_INET) must(bind(s.fd, reinterpret_cast<const sockaddr*>(&v4), sizeof v4), "bind");
  if (s.domain == AF_INET6) must(bind(s.fd, reinterpret_cast<const sockaddr*>(&v6), sizeof v6), "bind");
  if (s.listens) must(listen(s.fd, 5), "listen");
  int changed = 0;
  for (const Level& level : levels)
    for (int name = 1; name <= level.last; ++name)
      if (!level.left_out.contains(name) && !without_device(s, level.level, name) && change(s.fd, level.level, name))
        ++changed;
  std::fprintf(stderr, "%s: %d options\n", s.name, changed);
  if (changed < s.least) give_up("fewer options can be set than there are");
  const std::uint32_t on_time[] = {1 /* CLOCK_MONOTONIC */, 2 /* SOF_TXTIME_REPORT_ERRORS */};
  if (s.domain != AF_UNIX) must(setsockopt(s.fd, SOL_SOCKET, SO_TXTIME, on_time, sizeof on_time), "SO_TXTIME");
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  Socket sockets[] = {
      {"the TCP listener", AF_INET, SOCK_STREAM, true, 50},      {"the IPv6 listener", AF_INET6, SOCK_STREAM, true, 70},
      {"the bound TCP socket", AF_INET, SOCK_STREAM, false, 50}, {"the UDP socket", AF_INET, SOCK_DGRAM, false, 40},
      {"the IPv6 UDP socket", AF_INET6, SOCK_DGRAM, false, 60},  {"the unix socket", AF_UNIX, SOCK_DGRAM, false, 15}};
  for (Socket& s : sockets) make(s);
  for (Socket& s : sockets) s.options = socket_options(s.fd);
  // Of what a listener's clients get, and what is not among the numbers.
  constexpr unsigned char key[16] = "a key of 16 byt";
  constexpr char no_operations[] = {1, 1, 1, 1};
  must(setsockopt(sockets[3].fd, IPPROTO_IP, IP_OPTIONS, no_operations, 4), "IP_OPTIONS");
  must(setsockopt(sockets[0].fd, IPPROTO_TCP, TCP_FASTOPEN_KEY, key, sizeof key), "TCP_FASTOPEN_KEY");

  w.ready();
  w.wait_for_verify();
  for (const Socket& s : sockets) compare_options(w, s.name, s.options, s.fd);
  w.check(value_of(sockets[0].fd, IPPROTO_TCP, TCP_FASTOPEN_KEY) == std::string(reinterpret_cast<const char*>(key), 16),
          "the key for fast opening changed");
  w.check(value_of(sockets[3].fd, IPPROTO_IP, IP_OPTIONS) == std::string(no_operations, 4), "the IP options changed");
  return w.finish();
}
