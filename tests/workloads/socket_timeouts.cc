// Checks: accept and recv with SO_RCVTIMEO set: the kernel ends these waits with EINTR, not with a
// restart, when it is made to look at signals, and the program must not see that.

#include "tests/workloads/blocked_call.h"

#include <list>
#include <netinet/in.h>
#include <sys/socket.h>

using namespace godwit::workloads;

namespace {

constexpr int seconds = 3;
constexpr double before_ready = 1.2;

int patient_socket(int type, sockaddr_in& address, int timeout) {
  const int fd = must(socket(AF_INET, type | SOCK_CLOEXEC, 0), "socket");
  address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  must(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
  socklen_t size = sizeof address;
  must(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  const timeval limit{timeout, 0};
  must(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), "SO_RCVTIMEO");
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  sockaddr_in tcp{}, udp{}, unused{};
  const int listener = patient_socket(SOCK_STREAM, tcp, 3600);
  must(listen(listener, 4), "listen");
  const int datagrams = patient_socket(SOCK_DGRAM, udp, 3600);
  const int impatient = patient_socket(SOCK_DGRAM, unused, seconds);

  BlockedCall accepted("accept", [=] { return accept(listener, nullptr, nullptr) < 0 ? -1L : 0L; });
  BlockedCall received("recv", [=] {
    char got[16];
    return recv(datagrams, got, sizeof got, 0);
  });
  BlockedCall timed("recv with a short SO_RCVTIMEO", [=] {
    char got[16];
    return recv(impatient, got, sizeof got, 0);
  });
  for (const BlockedCall* call : {&accepted, &received, &timed}) call->settle();
  pause_for(before_ready);

  w.ready();
  w.wait_for_verify();
  accepted.still_blocked(w);
  received.still_blocked(w);
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  w.check(connect(client, reinterpret_cast<sockaddr*>(&tcp), sizeof tcp) == 0, "connect: %m");
  accepted.comes_back(w, 0);
  w.check(sendto(impatient, "abc", 3, 0, reinterpret_cast<sockaddr*>(&udp), sizeof udp) == 3, "sendto: %m");
  received.comes_back(w, 3);
  // The timeout is the socket's, not the call's, so it begins anew after a move.
  timed.comes_back(w, -EAGAIN, seconds + 5);
  return w.finish();
}
