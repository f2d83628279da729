#include "agent/jobs/packet_link.h"

#include "common/base/log.h"

#include <sys/socket.h>

namespace godwit::jobs {
namespace {

constexpr std::size_t most_queued = 1 << 20;

// The kernel takes no message that is longer than the buffer; it doubles what it is told.
UniqueFd with_room(UniqueFd socket) {
  const int bytes = net::max_packet;
  check(::setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), "set the send buffer");
  return socket;
}

net::awaitable<void> keep(std::shared_ptr<PacketLink> link, net::awaitable<void> work) { co_await std::move(work); }

}  // namespace

PacketLink::PacketLink(net::Executor executor, UniqueFd socket, Handlers handlers)
    : executor_(executor),
      socket_(executor, with_room(std::move(socket))),
      handlers_(std::move(handlers)),
      changed_(executor) {}

std::shared_ptr<PacketLink> PacketLink::start(net::Executor executor, UniqueFd socket, Handlers handlers) {
  auto link = std::make_shared<PacketLink>(executor, std::move(socket), std::move(handlers));
  net::spawn(executor, keep(link, link->read()), [link](std::exception_ptr) { link->ended(); });
  // That the other side has gone is no end yet: what it said before is still read. Anything else is one: what was to
  // be said is lost.
  net::spawn(executor, keep(link, link->write()), [link](std::exception_ptr problem) {
    if (!problem || !link->is_open()) return;
    const Error why = net::to_error(problem);
    if (why.errc() == Errc::peer_lost) return;
    log::error("packet_link.write", {{"message", why.message()}});
    link->ended();
  });
  return link;
}

void PacketLink::post(std::string bytes, std::vector<UniqueFd> fds) {
  if (bytes.size() > net::max_packet) fail(Errc::internal, "a control message of {} bytes", bytes.size());
  if (!open_) return;
  queued_bytes_ += bytes.size();
  queue_.push_back({.bytes = std::move(bytes), .fds = std::move(fds)});
  changed_.notify();
}

net::awaitable<void> PacketLink::room() {
  while (open_ && queued_bytes_ > most_queued) co_await changed_.wait();
}

net::awaitable<void> PacketLink::read() {
  while (open_) {
    std::optional<net::Packet> packet = co_await socket_.receive();
    if (!packet) co_return;
    const auto arrived = handlers_.arrived;  // a copy: the handler may close the link
    if (arrived) arrived(std::move(*packet));
  }
}

net::awaitable<void> PacketLink::write() {
  for (;;) {
    while (open_ && queue_.empty()) co_await changed_.wait();
    if (!open_) co_return;
    net::Packet packet = std::move(queue_.front());
    queue_.pop_front();
    const std::size_t size = packet.bytes.size();
    co_await socket_.send(std::move(packet));
    queued_bytes_ -= size;
    changed_.notify();
  }
}

void PacketLink::ended() {
  if (!open_) return;
  const auto closed = std::move(handlers_.closed);
  close();
  if (closed) closed();
}

void PacketLink::close() {
  open_ = false;
  handlers_ = {};
  socket_.close();
  queue_.clear();
  queued_bytes_ = 0;
  changed_.notify();
}

}  // namespace godwit::jobs
