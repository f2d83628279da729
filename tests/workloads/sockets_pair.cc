// Checks: connected unix sockets with both ends in the process: what waits in them, message boundaries, a shut-down
// direction, an end whose peer is closed, whom each end takes the other for.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

struct Pair {
  int ends[2];
  explicit Pair(int type) { must(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), "socketpair"); }
};

bool reads(int fd, const char* text) {
  char got[64];
  const ssize_t size = recv(fd, got, sizeof got, MSG_DONTWAIT);
  return size == static_cast<ssize_t>(std::strlen(text)) && std::memcmp(got, text, static_cast<std::size_t>(size)) == 0;
}

// The PID is that of whoever made the socket anew.
bool peer_is_own_user(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == geteuid() && peer.gid == getegid();
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  signal(SIGPIPE, SIG_IGN);
  const Pair stream(SOCK_STREAM), packets(SOCK_SEQPACKET), datagrams(SOCK_DGRAM | SOCK_NONBLOCK), shut(SOCK_STREAM),
      orphan(SOCK_STREAM);
  must(write(stream.ends[0], "to one", 6), "write");
  must(write(stream.ends[1], "to zero", 7), "write");
  for (const char* text : {"one", "three", "five!"}) {
    must(write(packets.ends[0], text, std::strlen(text)), "write");
    must(write(datagrams.ends[1], text, std::strlen(text)), "write");
  }
  must(write(shut.ends[0], "last", 4), "write");
  must(shutdown(shut.ends[0], SHUT_WR), "shutdown");
  must(write(orphan.ends[0], "left", 4), "write");
  close(orphan.ends[0]);

  w.ready();
  w.wait_for_verify();

  for (const Pair* pair : {&stream, &packets, &datagrams, &shut}) {
    for (const int end : pair->ends) w.check(peer_is_own_user(end), "SO_PEERCRED names another user");
  }
  w.check(reads(stream.ends[1], "to one") && reads(stream.ends[0], "to zero"), "what waited in the stream is lost");
  w.check(write(stream.ends[0], "more", 4) == 4 && reads(stream.ends[1], "more"),
          "the stream's ends do not belong together any more");
  for (const char* text : {"one", "three", "five!"}) {
    w.check(reads(packets.ends[1], text), "the packet \"%s\" is lost", text);
    w.check(reads(datagrams.ends[0], text), "the datagram \"%s\" is lost", text);
  }
  w.check((fcntl(datagrams.ends[0], F_GETFL) & O_NONBLOCK) != 0, "the datagram socket is not O_NONBLOCK any more");
  w.check(reads(shut.ends[1], "last") && reads(shut.ends[1], ""), "the shut-down direction does not end");
  w.check(write(shut.ends[1], "back", 4) == 4 && reads(shut.ends[0], "back"), "the other direction is shut down, too");
  w.check(write(shut.ends[0], "x", 1) == -1 && errno == EPIPE, "the shut-down direction is open again");
  w.check(reads(orphan.ends[1], "left") && reads(orphan.ends[1], "") && write(orphan.ends[1], "x", 1) == -1,
          "the orphan has a peer");
  return w.finish();
}
