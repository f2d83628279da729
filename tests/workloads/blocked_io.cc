// Checks: threads blocked in read, write, accept, recv and open go on waiting (no EINTR) and get what comes later.

#include "tests/workloads/blocked_call.h"

#include <csignal>
#include <fcntl.h>
#include <list>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <vector>

using namespace godwit::workloads;

namespace {

int loopback_socket(int type, sockaddr_in& address) {
  const int fd = must(socket(AF_INET, type | SOCK_CLOEXEC, 0), "socket");
  address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  must(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
  socklen_t size = sizeof address;
  must(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  return fd;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  int empty[2], full[2];
  must(pipe2(empty, O_CLOEXEC), "pipe2");
  must(pipe2(full, O_CLOEXEC), "pipe2");
  std::vector<char> page(4096, 'f');
  for (int room = must(fcntl(full[0], F_GETPIPE_SZ), "F_GETPIPE_SZ"); room > 0; room -= 4096) {
    must(write(full[1], page.data(), page.size()), "write");
  }
  const int counter = must(eventfd(0, EFD_CLOEXEC), "eventfd");
  const int signal_fd = must(signalfd(-1, &signals, SFD_CLOEXEC), "signalfd");
  sockaddr_in tcp{}, udp{};
  const int listener = loopback_socket(SOCK_STREAM, tcp);
  must(listen(listener, 4), "listen");
  const int datagrams = loopback_socket(SOCK_DGRAM, udp);
  const std::string fifo = w.path("fifo");
  must(mkfifo(fifo.c_str(), 0600), "mkfifo");

  std::list<BlockedCall> calls;
  calls.emplace_back("read from an empty pipe", [=] {
    char got[64] = {};
    const long size = read(empty[0], got, sizeof got);
    return size == 5 && std::strcmp(got, "later") != 0 ? -1000L : size;
  });
  const BlockedCall& reader = calls.back();
  calls.emplace_back("write to a full pipe", [=] { return write(full[1], page.data(), page.size()); });
  const BlockedCall& writer = calls.back();
  calls.emplace_back("read from an eventfd", [=] {
    std::uint64_t value = 0;
    return read(counter, &value, 8) == 8 ? static_cast<long>(value) : -1L;
  });
  const BlockedCall& counted = calls.back();
  calls.emplace_back("read from a signalfd", [=] {
    signalfd_siginfo info{};
    return read(signal_fd, &info, sizeof info) == sizeof info ? static_cast<long>(info.ssi_signo) : -1L;
  });
  const BlockedCall& signalled = calls.back();
  calls.emplace_back("accept", [=] {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return -1L;
    close(fd);
    return 0L;
  });
  const BlockedCall& accepted = calls.back();
  calls.emplace_back("recv", [=] {
    char got[64];
    return recv(datagrams, got, sizeof got, 0);
  });
  const BlockedCall& received = calls.back();
  calls.emplace_back("open of a fifo without a writer", [=] {
    const int fd = open(fifo.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1L;
    close(fd);
    return 0L;
  });
  const BlockedCall& opened = calls.back();
  for (const BlockedCall& call : calls) call.settle();

  w.ready();
  w.wait_for_verify();
  for (const BlockedCall& call : calls) call.still_blocked(w);

  w.check(write(empty[1], "later", 5) == 5, "write to the empty pipe: %m");
  reader.comes_back(w, 5);
  // A full pipe takes a whole page only when a whole buffer has been read.
  w.check(read(full[0], page.data(), page.size()) == 4096, "read from the full pipe: %m");
  writer.comes_back(w, 4096);
  w.check(eventfd_write(counter, 77) == 0, "eventfd_write: %m");
  counted.comes_back(w, 77);
  w.check(kill(getpid(), SIGUSR1) == 0, "kill: %m");
  signalled.comes_back(w, SIGUSR1);
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  w.check(connect(client, reinterpret_cast<sockaddr*>(&tcp), sizeof tcp) == 0, "connect: %m");
  accepted.comes_back(w, 0);
  const int sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  w.check(sendto(sender, "abc", 3, 0, reinterpret_cast<sockaddr*>(&udp), sizeof udp) == 3, "sendto: %m");
  received.comes_back(w, 3);
  const int fifo_writer = open(fifo.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  w.check(fifo_writer >= 0, "nobody waits in open of the fifo: %m");
  opened.comes_back(w, 0);
  return w.finish();
}
