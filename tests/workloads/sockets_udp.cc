// Checks: UDP sockets: unbound, bound, connected, IPv6, with options; datagrams still come and go.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = sizeof(sockaddr_storage);
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
  bool operator==(const Address& o) const { return size == o.size && std::memcmp(&storage, &o.storage, size) == 0; }
};

Address own(int fd) {
  Address address;
  getsockname(fd, address.get(), &address.size);
  return address;
}

Address peer(int fd) {
  Address address;
  if (getpeername(fd, address.get(), &address.size) != 0) address.size = 0;
  return address;
}

int make(int family, int flags = 0) {
  const int fd = must(socket(family, SOCK_DGRAM | SOCK_CLOEXEC | flags, 0), "socket");
  return fd;
}

int bound(int family, int flags = 0) {
  const int fd = make(family, flags);
  const sockaddr_in v4{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  const sockaddr_in6 v6{.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
  must(family == AF_INET ? bind(fd, reinterpret_cast<const sockaddr*>(&v4), sizeof v4)
                         : bind(fd, reinterpret_cast<const sockaddr*>(&v6), sizeof v6),
       "bind");
  return fd;
}

bool arrives(int from, int to, Address* address) {
  const ssize_t sent =
      address != nullptr ? sendto(from, "datagram", 8, 0, address->get(), address->size) : send(from, "datagram", 8, 0);
  char got[16];
  return sent == 8 && readable(to) && recv(to, got, sizeof got, 0) == 8 && std::memcmp(got, "datagram", 8) == 0;
}

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  getsockopt(fd, level, name, &value, &size);
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int unbound = make(AF_INET);
  const int server = bound(AF_INET, SOCK_NONBLOCK);
  const int server6 = bound(AF_INET6);
  const int client = make(AF_INET);
  Address server_name = own(server);
  must(connect(client, server_name.get(), server_name.size), "connect");
  const int bound_client = bound(AF_INET);
  must(connect(bound_client, server_name.get(), server_name.size), "connect");
  const int yes = 1, tos = 0x48, buffer = 40'000;
  must(setsockopt(server, SOL_SOCKET, SO_BROADCAST, &yes, sizeof yes), "SO_BROADCAST");
  must(setsockopt(server, IPPROTO_IP, IP_PKTINFO, &yes, sizeof yes), "IP_PKTINFO");
  must(setsockopt(server, IPPROTO_IP, IP_TOS, &tos, sizeof tos), "IP_TOS");
  must(setsockopt(server, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer), "SO_RCVBUF");
  must(setsockopt(server6, IPPROTO_IPV6, IPV6_RECVPKTINFO, &yes, sizeof yes), "IPV6_RECVPKTINFO");

  const int fds[] = {server, server6, client, bound_client};
  Address names[4], peers[4];
  for (int i = 0; i < 4; ++i) {
    names[i] = own(fds[i]);
    peers[i] = peer(fds[i]);
  }
  const int received = option(server, SOL_SOCKET, SO_RCVBUF);
  must(fcntl(server, F_SETOWN, getpid()), "F_SETOWN");
  must(fcntl(server, F_SETSIG, SIGRTMIN + 1), "F_SETSIG");
  const std::string owner = owner_of(server);
  std::map<std::string, std::string> options[4];
  for (int i = 0; i < 4; ++i) options[i] = socket_options(fds[i]);

  w.ready();
  w.wait_for_verify();

  for (int i = 0; i < 4; ++i) {
    w.check(own(fds[i]) == names[i], "socket %d of 4 has another address", i + 1);
    w.check(peer(fds[i]) == peers[i], "socket %d of 4 has another peer", i + 1);
    if (!w.beside_criu()) compare_options(w, ("socket " + std::to_string(i + 1) + " of 4").c_str(), options[i], fds[i]);
  }
  w.check(option(server, SOL_SOCKET, SO_BROADCAST) == 1 && option(server, IPPROTO_IP, IP_PKTINFO) == 1 &&
              option(server, IPPROTO_IP, IP_TOS) == tos && option(server, SOL_SOCKET, SO_RCVBUF) == received &&
              option(server6, IPPROTO_IPV6, IPV6_RECVPKTINFO) == 1,
          "options of a bound socket changed");
  w.check(owner_of(server) == owner, "the owner was: %s; and is: %s", owner.c_str(), owner_of(server).c_str());
  w.check((fcntl(server, F_GETFL) & O_NONBLOCK) != 0, "the server is not O_NONBLOCK any more");
  w.check(arrives(client, server, nullptr), "the connected socket does not reach the server");
  w.check(arrives(bound_client, server, nullptr), "the bound and connected socket does not reach the server");
  w.check(arrives(server, bound_client, &names[3]), "the server does not reach the bound and connected socket");
  w.check(arrives(unbound, server, &server_name), "the unbound socket does not reach the server");
  w.check(arrives(server6, server6, &names[1]), "the IPv6 socket does not reach itself");
  // A connected socket takes datagrams from its peer only.
  w.check(sendto(unbound, "x", 1, 0, names[3].get(), names[3].size) == 1, "sendto: %m");
  char none;
  w.check(recv(bound_client, &none, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN,
          "the connected socket takes datagrams from anybody");
  return w.finish();
}
