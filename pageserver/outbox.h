// What is on its way to the agent. Stored messages are merged while the agent is slow to read, so that the queue
// is bounded by the number of streams; they always go out before the messages queued after them.
#pragma once

#include "common/net/packet_socket.h"
#include "pageserver/control.pb.h"

#include <deque>
#include <map>
#include <string>
#include <utility>

namespace godwit::pageserver {

class Outbox {
 public:
  Outbox(net::Executor executor, net::PacketSocket& socket);

  void send(FromServer message);
  void stored(const std::string& migration, std::uint32_t stream, std::uint64_t upto);

 private:
  static net::awaitable<void> deliver(Outbox& self);
  FromServer next();

  net::PacketSocket& socket_;
  net::Signal work_;
  std::map<std::pair<std::string, std::uint32_t>, std::uint64_t> stored_;
  std::deque<FromServer> messages_;
};

}  // namespace godwit::pageserver
