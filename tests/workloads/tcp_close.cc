// Checks: established TCP connections moved with --tcp-close: both ends are reset (nothing hangs, nothing pretends to
// be connected), their descriptors and flags stay, and the listener takes new clients. Natively they are still
// connected.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

struct Connection {
  int client, server;
};

Connection connect_to(int listener) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  must(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  const int client = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  must(connect(client, reinterpret_cast<sockaddr*>(&address), size), "connect");
  return {client, must(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK), "accept4")};
}

bool carries(const Connection& c) {
  char got[4];
  return write(c.client, "ping", 4) == 4 && readable(c.server) && read(c.server, got, 4) == 4 &&
         std::memcmp(got, "ping", 4) == 0;
}

// Reading and writing end at once, as on a connection whose peer is gone.
void is_reset(Workload& w, int fd, const char* which) {
  w.check(readable(fd), "%s: a reader would wait", which);
  char got[64];
  const ssize_t size = recv(fd, got, sizeof got, MSG_DONTWAIT);
  const bool ended = size == 0 && w.beside_criu();  // CRIU's images cannot say that it was reset
  w.check(ended || (size == -1 && errno == ECONNRESET), "%s: recv returned %zd (%m), not the reset", which, size);
  const ssize_t sent = send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
  w.check(sent == -1 && (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN), "%s: send returned %zd (%m)",
          which, sent);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int listener = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");
  const sockaddr_in loopback{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  must(bind(listener, reinterpret_cast<const sockaddr*>(&loopback), sizeof loopback), "bind");
  must(listen(listener, 16), "listen");
  const Connection idle = connect_to(listener);
  const Connection busy = connect_to(listener);
  char bulk[20'000];
  fill(bulk, sizeof bulk, 1);
  must(write(busy.client, bulk, sizeof bulk), "write");  // stays unread
  const int epoll = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  epoll_event watch{EPOLLIN | EPOLLRDHUP, {.u64 = 99}};
  must(epoll_ctl(epoll, EPOLL_CTL_ADD, idle.server, &watch), "epoll_ctl");

  w.ready();
  w.wait_for_verify();

  w.check((fcntl(idle.server, F_GETFL) & O_NONBLOCK) != 0 && fcntl(idle.server, F_GETFD) == 0 &&
              fcntl(idle.client, F_GETFD) == FD_CLOEXEC,
          "flags of the connections changed");
  epoll_event event;
  const int events = epoll_wait(epoll, &event, 1, 0);
  if (!w.moved()) {
    w.check(events == 0 && carries(idle), "a connection broke that was not moved");
    char got[20'000];
    w.check(recv(busy.server, got, sizeof got, MSG_WAITALL) == sizeof got && holds(got, sizeof got, 1),
            "data was lost that was not moved");
  } else {
    w.check(events == 1 && event.data.u64 == 99, "epoll does not report the reset connection");
    is_reset(w, idle.server, "the idle connection's server");
    is_reset(w, idle.client, "the idle connection's client");
    is_reset(w, busy.client, "the busy connection's client");
    is_reset(w, busy.server, "the busy connection's server");
  }
  for (const int fd : {idle.client, idle.server, busy.client, busy.server}) w.check(close(fd) == 0, "close: %m");
  pollfd nobody{listener, POLLIN, 0};
  w.check(poll(&nobody, 1, 0) == 0, "the listener has a client that never connected");
  const Connection later = connect_to(listener);
  w.check(carries(later), "a new connection carries nothing");
  return w.finish();
}
