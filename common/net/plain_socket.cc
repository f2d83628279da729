#include "common/net/plain_socket.h"

#include "common/base/waiting.h"
#include "common/net/pacing.h"

#include <algorithm>
#include <memory>
#include <vector>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

namespace godwit::net {
namespace {

struct Free {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, Free>;

Addresses look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_flags = flags | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int problem =
      ::getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (problem == EAI_SYSTEM) throw syscall_error(errno, fmt::format("look up {}", host));
  if (problem != 0) fail(Errc::invalid_argument, "{} is no address: {}", host, ::gai_strerror(problem));
  return Addresses(found);
}

std::string text_of(const sockaddr_storage& address) {
  std::string host(INET6_ADDRSTRLEN, '\0');
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, host.data(), INET6_ADDRSTRLEN);
    return fmt::format("{}:{}", host.c_str(), ntohs(v4.sin_port));
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    ::inet_ntop(AF_INET6, &v6.sin6_addr, host.data(), INET6_ADDRSTRLEN);
    return fmt::format("[{}]:{}", host.c_str(), ntohs(v6.sin6_port));
  }
  return "a socket";
}

UniqueFd make_socket(const addrinfo& address) {
  return UniqueFd(
      check(::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address.ai_protocol),
            "make a socket"));
}

void set_option(int socket, int level, int option, int value, std::string_view name) {
  check(::setsockopt(socket, level, option, &value, sizeof value), "set {}", name);
}

// Of a peer that says nothing because it works, the kernel answers.
void notice_dead_host(int socket) {
  constexpr int silent_s = 20, again_s = 10, times = 4;
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, silent_s, "TCP_KEEPIDLE");
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, again_s, "TCP_KEEPINTVL");
  set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, times, "TCP_KEEPCNT");
}

UniqueFd connect_to(const addrinfo& address, const std::string& name, Deadline deadline) {
  UniqueFd socket = make_socket(address);
  begin_unpaced(socket.get());
  const std::string what = fmt::format("connect to {}", name);
  int problem = ::connect(socket.get(), address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  if (problem == EINPROGRESS) {
    wait_ready(socket.get(), POLLOUT, deadline, what);
    socklen_t length = sizeof problem;
    check(::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &problem, &length), "{}", what);
  }
  if (problem != 0) throw syscall_error(problem, what);
  adopt_stream(socket.get());
  pace_if_far(socket.get());
  notice_dead_host(socket.get());
  return socket;
}

UniqueFd listen_at(const addrinfo& address, const std::string& name, int backlog) {
  UniqueFd socket = make_socket(address);
  set_option(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
  if (address.ai_family == AF_INET6) set_option(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0, "IPV6_V6ONLY");
  check(::bind(socket.get(), address.ai_addr, address.ai_addrlen), "bind to {}", name);
  check(::listen(socket.get(), backlog), "listen at {}", name);
  return socket;
}

}  // namespace

void adopt_stream(int socket) {
  check(::fcntl(socket, F_SETFL, check(::fcntl(socket, F_GETFL), "use socket {}", socket) | O_NONBLOCK),
        "use socket {}", socket);
  check(::fcntl(socket, F_SETFD, FD_CLOEXEC), "use socket {}", socket);
  int domain = 0;
  socklen_t length = sizeof domain;
  check(::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length), "use socket {}", socket);
  if (domain == AF_INET || domain == AF_INET6) set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
}

// 1 MiB within half a millisecond is 2 GB/s.
void fit_buffers(int socket) {
  constexpr int enough = 1024 * 1024;
  if (!is_near(socket)) return;
  for (const int buffer : {SO_SNDBUF, SO_RCVBUF}) {
    int got = 0;
    socklen_t length = sizeof got;
    ::setsockopt(socket, SOL_SOCKET, buffer, &enough, sizeof enough);
    // The kernel doubles it. Where it allows less (net.core.rmem_max), its own sizing is better.
    if (::getsockopt(socket, SOL_SOCKET, buffer, &got, &length) == 0 && got >= 2 * enough) continue;
    const int nothing_locked = 0;
    ::setsockopt(socket, SOL_SOCKET, SO_BUF_LOCK, &nothing_locked, sizeof nothing_locked);  // 5.14+
  }
}

UniqueFd dial(const std::string& host, std::uint16_t port, std::chrono::milliseconds limit) {
  const std::string name =
      host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
  const Addresses all = look_up(host, port, 0);
  const Deadline deadline = in(limit);
  for (const addrinfo* one = all.get();; one = one->ai_next) {
    try {
      return connect_to(*one, name, deadline);
    } catch (const Error&) {
      if (one->ai_next == nullptr) throw;
    }
  }
}

UniqueFd listen_on(const std::string& host, std::uint16_t port, int backlog) {
  const Addresses all = look_up(host, port, AI_PASSIVE);
  std::vector<const addrinfo*> candidates;
  for (const addrinfo* one = all.get(); one != nullptr; one = one->ai_next) candidates.push_back(one);
  // Without a host: IPv6 with IPv4 in it, where there is IPv6.
  if (host.empty()) std::ranges::partition(candidates, [](const addrinfo* one) { return one->ai_family == AF_INET6; });
  for (const addrinfo* one : candidates) {
    try {
      return listen_at(*one, fmt::format("{}:{}", host, port), backlog);
    } catch (const Error&) {
      if (one == candidates.back()) throw;
    }
  }
  fail(Errc::invalid_argument, "{} has no address", host);
}

UniqueFd accept_one(int listener, Deadline deadline) {
  for (;;) {
    wait_ready(listener, POLLIN, deadline, "wait for a client");
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    // Errors of a connection that has gone already come out here (accept(2)).
    if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED || errno == EPROTO)) continue;
    UniqueFd connection(check(fd, "accept a client"));
    adopt_stream(connection.get());
    return connection;
  }
}

std::string local_address(int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  check(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length), "name a socket");
  return text_of(address);
}

std::string peer_address(int socket) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getpeername(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) return "a socket";
  return text_of(address);
}

}  // namespace godwit::net
