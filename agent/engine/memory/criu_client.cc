#include "agent/engine/memory/criu_client.h"

#include <algorithm>
#include <array>

#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

namespace godwit::engine {

using pagewire::Run;
using namespace pagewire::criu;

namespace {

constexpr std::size_t headers_at_once = 256;
static_assert(pagewire::max_runs < headers_at_once);  // a batch never flushes the frame that its next run is in
constexpr std::size_t pieces_at_once = 1000;          // sendmsg(2) takes 1024

// The server has no words for what is wrong: it hangs up.
[[noreturn]] void lost(std::string_view what, int error_number, std::chrono::milliseconds limit) {
  if (error_number == EAGAIN)
    fail(Errc::timed_out, "{} the page server: nothing happened for {} s", what, limit.count() / 1000);
  Error error(Errc::peer_lost,
              fmt::format("{} the page server: {}", what,
                          error_number == 0 ? "it has hung up" : std::generic_category().message(error_number)),
              "its log says why");
  throw error.with_errno(error_number);
}

// Who reads a ring and dies does not say so there.
bool hung_up(int socket) {
  pollfd peer{.fd = socket, .events = 0, .revents = 0};
  return ::poll(&peer, 1, 0) > 0;
}

}  // namespace

CriuClient::CriuClient(UniqueFd socket, HeaderSize size, std::unique_ptr<pagewire::Ring> pages, ClientLimits limits)
    : socket_(std::move(socket)), size_(size), limits_(limits), ring_(std::move(pages)) {
  const int flags = check(::fcntl(socket_.get(), F_GETFL), "use the page server's socket {}", socket_.get());
  check(::fcntl(socket_.get(), F_SETFL, flags & ~O_NONBLOCK), "use the page server's socket");
  check(::fcntl(socket_.get(), F_SETFD, FD_CLOEXEC), "use the page server's socket");
  limit_waits(SO_SNDTIMEO, limits.stall);
  headers_.reserve(headers_at_once);
  if (!ring_) own_frame_.resize(pagewire::max_payload);
}

void CriuClient::limit_waits(int option, std::chrono::milliseconds limit) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(limit);
  const timeval t{.tv_sec = seconds.count(), .tv_usec = std::chrono::microseconds(limit - seconds).count()};
  check(::setsockopt(socket_.get(), SOL_SOCKET, option, &t, sizeof t), "limit waits for a page server");
}

std::span<std::byte> CriuClient::reserve() {
  constexpr std::chrono::milliseconds look_after{100};
  for (const auto end = Clock::now() + limits_.stall;;) {
    try {
      return ring_->reserve(pagewire::max_payload, look_after);
    } catch (const Error& e) {
      if (e.errc() != Errc::timed_out) throw;
    }
    if (hung_up(socket_.get())) lost("send to", 0, limits_.stall);
    if (Clock::now() > end) lost("send to", EAGAIN, limits_.stall);
  }
}

std::span<std::byte> CriuClient::frame() {
  if (!ring_) return own_frame_;
  if (frame_.empty()) frame_ = reserve();
  return frame_;
}

void CriuClient::flush() {
  if (framed_ > 0) {
    ring_->commit(framed_);
    framed_ = 0;
    frame_ = {};
  }
  std::span<iovec> left(pieces_);
  while (!left.empty()) {
    const msghdr message{.msg_iov = left.data(), .msg_iovlen = left.size()};
    const ssize_t n = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) lost("send to", errno, limits_.stall);
    auto sent = static_cast<std::size_t>(n);
    while (sent > 0) {
      iovec& first = left.front();
      const std::size_t part = std::min(sent, first.iov_len);
      first.iov_base = static_cast<std::byte*>(first.iov_base) + part;
      first.iov_len -= part;
      sent -= part;
      if (first.iov_len == 0) left = left.subspan(1);
    }
  }
  pieces_.clear();
  headers_.clear();
}

void CriuClient::copy_to_frame(std::span<const std::byte> data) {
  while (!data.empty()) {
    const std::span<std::byte> room = frame().subspan(framed_);
    const std::size_t some = std::min(data.size(), room.size());
    std::ranges::copy(data.first(some), room.begin());
    framed_ += some;
    data = data.subspan(some);
    if (some == room.size()) flush();
  }
}

void CriuClient::make_room() {
  if (headers_.size() == headers_at_once || pieces_.size() >= pieces_at_once) flush();
}

void CriuClient::header(Command command, std::uint16_t flags, Run run) {
  make_room();
  const Header h{.command = command, .flags = flags, .pages = run.pages, .address = run.address, .object = object_};
  const EncodedHeader& bytes = headers_.emplace_back(encode(size_, h));
  pieces_.push_back({const_cast<std::byte*>(bytes.bytes.data()), bytes.length});
}

void CriuClient::add_pages(Run run, std::span<const std::byte> data) {
  has_pages_ = true;
  header(Command::add, run_present, run);
  if (!ring_)
    pieces_.push_back({const_cast<std::byte*>(data.data()), data.size()});
  else if (data.data() == frame_.data() + framed_)
    framed_ += data.size();
  else
    copy_to_frame(data);
}

void CriuClient::add_hole(Run run) { header(Command::add, run_parent, run); }

void CriuClient::receive(std::span<std::byte> into, std::chrono::milliseconds limit) {
  limit_waits(SO_RCVTIMEO, limit);
  while (!into.empty()) {
    const ssize_t n = ::recv(socket_.get(), into.data(), into.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) lost("wait for", n == 0 ? 0 : errno, limit);
    into = into.subspan(static_cast<std::size_t>(n));
  }
}

void CriuClient::ask(Command command, pagewire::ObjectId object, std::span<std::byte> answer) {
  object_ = object;
  header(command, 0, {});
  flush();
  receive(answer, has_pages_ && command != Command::parent ? limits_.stored : limits_.stall);
}

bool CriuClient::parent_has(pagewire::ObjectId object) {
  std::int32_t has = 0;
  ask(Command::parent, object, std::as_writable_bytes(std::span(&has, 1)));
  return has != 0;
}

bool CriuClient::open(pagewire::ObjectId object) {
  std::byte has{};
  ask(Command::open2, object, std::span(&has, 1));
  return has != std::byte{0};
}

void CriuClient::close() {
  std::int32_t status = -1;
  ask(Command::close, 0, std::as_writable_bytes(std::span(&status, 1)));
  if (status != 0) fail(Errc::protocol, "the page server says that it failed ({})", status);
  socket_.reset();  // it waits for that
}

}  // namespace godwit::engine
