#include "pageserver/outbox.h"

namespace godwit::pageserver {

Outbox::Outbox(net::Executor executor, net::PacketSocket& socket) : socket_(socket), work_(executor) {
  net::spawn(executor, "outbox", deliver(*this));
}

void Outbox::send(FromServer message) {
  messages_.push_back(std::move(message));
  work_.notify();
}

void Outbox::stored(const std::string& migration, std::uint32_t stream, std::uint64_t upto) {
  stored_[{migration, stream}] = upto;
  work_.notify();
}

FromServer Outbox::next() {
  FromServer message;
  if (stored_.empty()) {
    message = std::move(messages_.front());
    messages_.pop_front();
    return message;
  }
  const auto first = stored_.begin();
  Stored& stored = *message.mutable_stored();
  stored.set_migration(first->first.first);
  stored.set_stream(first->first.second);
  stored.set_upto(first->second);
  stored_.erase(first);
  return message;
}

net::awaitable<void> Outbox::deliver(Outbox& self) {
  for (;;) {
    while (self.stored_.empty() && self.messages_.empty()) co_await self.work_.wait();
    net::Packet packet{.bytes = self.next().SerializeAsString(), .fds = {}};
    co_await self.socket_.send(std::move(packet));
  }
}

}  // namespace godwit::pageserver
