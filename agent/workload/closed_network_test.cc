#include "agent/workload/closed_network.h"

#include "agent/workload/test_cgroup.h"
#include "common/base/check.h"

#include <linux/sched.h>

#include <gtest/gtest.h>

#include <csignal>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::workload {
namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Address loopback(int family) {
  Address a;
  if (family == AF_INET) {
    auto& in = reinterpret_cast<sockaddr_in&>(a.storage);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.size = sizeof in;
  } else {
    auto& in = reinterpret_cast<sockaddr_in6&>(a.storage);
    in.sin6_addr = in6addr_loopback;
    a.size = sizeof in;
  }
  a.storage.ss_family = static_cast<sa_family_t>(family);
  return a;
}

UniqueFd bound(int family, int type, Address& at) {
  at = loopback(family);
  UniqueFd fd(check(::socket(family, type | SOCK_CLOEXEC, 0), "make a socket"));
  check(::bind(fd.get(), at.get(), at.size), "bind");
  check(::getsockname(fd.get(), at.get(), &at.size), "read the address");
  return fd;
}

bool readable(const UniqueFd& fd, int milliseconds) {
  pollfd p{.fd = fd.get(), .events = POLLIN, .revents = 0};
  return ::poll(&p, 1, milliseconds) == 1;
}

// In a cgroup: answers every connection with what it hears, and sends a datagram for each byte that it is told.
class Peer {
 public:
  Peer(const Cgroup& cgroup, int family, Address datagrams) {
    int ends[2];
    check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "make a pair of sockets");
    control_.reset(ends[0]);
    const UniqueFd theirs(ends[1]);
    clone_args arguments{};
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = SIGCHLD;
    arguments.cgroup = static_cast<std::uint64_t>(cgroup.dir());
    pid_ = static_cast<pid_t>(check(::syscall(SYS_clone3, &arguments, sizeof arguments), "fork"));
    if (pid_ == 0) serve(theirs, family, datagrams);
    check(::recv(control_.get(), &address_, sizeof address_, MSG_WAITALL), "hear of the peer");
  }
  ~Peer() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  // What sendto() said: the errno, or 0.
  int send_datagram() {
    int said = -1;
    check(::send(control_.get(), "", 1, 0), "ask for a datagram");
    check(::recv(control_.get(), &said, sizeof said, MSG_WAITALL), "hear of the datagram");
    return said;
  }
  UniqueFd connect() {
    UniqueFd fd(
        check(::socket(address_.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "make a socket"));
    ::connect(fd.get(), address_.get(), address_.size);
    return fd;
  }

 private:
  [[noreturn]] static void serve(const UniqueFd& control, int family, Address datagrams) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    Address at;
    const UniqueFd listener = bound(family, SOCK_STREAM, at);
    ::listen(listener.get(), 5);
    const UniqueFd sender(::socket(family, SOCK_DGRAM, 0));
    ::send(control.get(), &at, sizeof at, 0);
    UniqueFd accepted;
    for (;;) {
      pollfd all[] = {{control.get(), POLLIN, 0}, {listener.get(), POLLIN, 0}, {accepted.get(), POLLIN, 0}};
      ::poll(all, 3, -1);
      char bytes[64];
      if (all[0].revents) {
        if (::read(control.get(), bytes, 1) != 1) ::_exit(0);
        const int said = ::sendto(sender.get(), "x", 1, 0, datagrams.get(), datagrams.size) == 1 ? 0 : errno;
        ::send(control.get(), &said, sizeof said, 0);
      }
      if (all[1].revents) accepted.reset(::accept(listener.get(), nullptr, nullptr));
      if (all[2].revents) {
        const ssize_t n = ::read(accepted.get(), bytes, sizeof bytes);
        if (n <= 0)
          accepted.reset();
        else if (::write(accepted.get(), bytes, static_cast<std::size_t>(n)) != n)
          ::_exit(1);
      }
    }
  }

  UniqueFd control_;
  pid_t pid_ = -1;
  Address address_;
};

class ClosedNetwork : public testing::TestWithParam<int> {
 protected:
  Address datagrams_;
  UniqueFd receiver_ = bound(GetParam(), SOCK_DGRAM, datagrams_);
  TestCgroup cgroup_{"closed"};
};

INSTANTIATE_TEST_SUITE_P(Of, ClosedNetwork, testing::Values(AF_INET, AF_INET6),
                         [](const auto& family) { return family.param == AF_INET ? "IPv4" : "IPv6"; });

TEST_P(ClosedNetwork, loses_datagrams_until_it_is_opened) {
  close_network(*cgroup_);
  EXPECT_TRUE(network_closed(*cgroup_));
  Peer peer(*cgroup_, GetParam(), datagrams_);
  EXPECT_EQ(peer.send_datagram(), 0) << "its sender is not told";
  EXPECT_FALSE(readable(receiver_, 200));
  open_network(*cgroup_);
  EXPECT_FALSE(network_closed(*cgroup_));
  EXPECT_EQ(peer.send_datagram(), 0);
  EXPECT_TRUE(readable(receiver_, 2000));
}

TEST_P(ClosedNetwork, takes_connections_and_answers_when_it_is_opened) {
  close_network(*cgroup_);
  Peer peer(*cgroup_, GetParam(), datagrams_);
  const UniqueFd connection = peer.connect();
  pollfd p{.fd = connection.get(), .events = POLLOUT, .revents = 0};
  ASSERT_EQ(::poll(&p, 1, 500), 1) << "a SYN is repeated after a second";
  ASSERT_EQ(p.revents, POLLOUT);
  ASSERT_EQ(::send(connection.get(), "ping", 4, 0), 4);
  EXPECT_FALSE(readable(connection, 300));
  open_network(*cgroup_);
  ASSERT_TRUE(readable(connection, 5000)) << "what was lost is sent again";
  char bytes[8];
  EXPECT_EQ(::read(connection.get(), bytes, sizeof bytes), 4);
}

TEST_P(ClosedNetwork, is_one_cgroup_s_alone) {
  TestCgroup other("beside");
  close_network(*other);
  Peer peer(*cgroup_, GetParam(), datagrams_);
  EXPECT_EQ(peer.send_datagram(), 0);
  EXPECT_TRUE(readable(receiver_, 2000));
}

TEST(OpenNetwork, is_opened_as_often_as_one_likes_and_wholly) {
  TestCgroup cgroup("twice");
  open_network(*cgroup);
  close_network(*cgroup);
  close_network(*cgroup);
  open_network(*cgroup);
  EXPECT_FALSE(network_closed(*cgroup));
  open_network(*cgroup);
}

}  // namespace
}  // namespace godwit::workload
