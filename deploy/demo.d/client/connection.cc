#include "deploy/demo.d/client/connection.h"

#include "common/base/units.h"

#include <cstring>
#include <memory>

#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

namespace godwit::demo {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds reply_limit{120'000};  // DEBUG DIGEST of some gigabytes answers late
constexpr std::size_t read_size = 256 * 1024;

void wait_for(int fd, short events, Clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now()).count();
    if (left < 0) fail(Errc::timed_out, "redis does not answer");
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    if (check_raw(::poll(&entry, 1, static_cast<int>(left) + 1) < 0 && errno != EINTR ? -errno : entry.revents,
                  "wait for redis") != 0)
      return;
  }
}

UniqueFd open_socket(const Address& address, Clock::time_point until) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (error != 0) fail(Errc::not_found, "find {}: {}", address.host, gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> guard(found, ::freeaddrinfo);

  UniqueFd socket(check(::socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "make a socket"));
  const int one = 1;
  check(::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), "set TCP_NODELAY");
  if (::connect(socket.get(), found->ai_addr, found->ai_addrlen) == 0) return socket;
  if (errno != EINPROGRESS) throw syscall_error(errno, fmt::format("connect to {}:{}", address.host, address.port));
  wait_for(socket.get(), POLLOUT, until);
  int outcome = 0;
  socklen_t size = sizeof outcome;
  check(::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &outcome, &size), "read SO_ERROR");
  if (outcome != 0) throw syscall_error(outcome, fmt::format("connect to {}:{}", address.host, address.port));
  return socket;
}

}  // namespace

Address parse_address(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) fail(Errc::invalid_argument, "{} is not HOST:PORT", text);
  const int port = std::atoi(text.c_str() + colon + 1);
  if (port <= 0 || port > 65535) fail(Errc::invalid_argument, "{} is not HOST:PORT", text);
  return {text.substr(0, colon), static_cast<std::uint16_t>(port)};
}

Connection Connection::connect(const Address& address, milliseconds limit) {
  const auto until = Clock::now() + limit;
  Connection connection(open_socket(address, until));
  connection.queue({"PING"});
  const Reply reply =
      connection.wait_reply(std::max(milliseconds(1), std::chrono::duration_cast<milliseconds>(until - Clock::now())));
  if (reply.text != "PONG") fail(Errc::busy, "{} answered a ping with {}", address.host, reply.text);
  return connection;
}

void Connection::send_some() {
  while (wants_to_write()) {
    const ssize_t n = ::send(fd(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) throw Error(Errc::peer_lost, fmt::format("send to redis: {}", std::strerror(errno)));
    sent_ += static_cast<std::size_t>(n);
  }
  if (sent_ == out_.size()) {
    out_.clear();
    sent_ = 0;
  }
}

void Connection::receive_some() {
  if (parsed_ == in_.size()) {
    in_.clear();
    parsed_ = 0;
  } else if (parsed_ > read_size) {
    in_.erase(0, parsed_);
    parsed_ = 0;
  }
  const std::size_t before = in_.size();
  in_.resize(before + read_size);
  const ssize_t n = ::recv(fd(), in_.data() + before, read_size, 0);
  const int error = errno;
  in_.resize(before + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  if (n == 0) fail(Errc::peer_lost, "redis closed the connection");
  if (n < 0 && error != EAGAIN) fail(Errc::peer_lost, "receive from redis: {}", std::strerror(error));
}

std::optional<Reply> Connection::next_reply() { return parse_reply(in_, parsed_); }

Reply Connection::wait_reply(milliseconds limit) {
  const auto until = Clock::now() + limit;
  for (;;) {
    if (auto reply = next_reply()) return std::move(*reply);
    send_some();
    wait_for(fd(), static_cast<short>(POLLIN | (wants_to_write() ? POLLOUT : 0)), until);
    receive_some();
  }
}

void pipeline(Connection& connection, std::uint64_t count, std::uint64_t window,
              const std::function<void(std::uint64_t)>& ask,
              const std::function<void(std::uint64_t, Reply)>& answered) {
  std::uint64_t asked = 0;
  for (std::uint64_t done = 0; done < count; ++done) {
    // Topped up by halves, so that each send carries many commands.
    if (asked - done <= window / 2) {
      while (asked < count && asked - done < window) ask(asked++);
      connection.send_some();
    }
    answered(done, connection.wait_reply(reply_limit));
  }
}

}  // namespace godwit::demo
