// A PacketSocket with a queue: messages go out in order, whoever posts them, and what arrives is handed on at once.
// On the executor's thread. The callbacks hold no reference to the link after close().
#pragma once

#include "common/net/packet_socket.h"

#include <deque>
#include <functional>
#include <memory>

namespace godwit::jobs {

class PacketLink : public std::enable_shared_from_this<PacketLink> {
 public:
  struct Handlers {
    std::function<void(net::Packet)> arrived;
    std::function<void()> closed;  // once, when the other side has gone; not after close()
  };

  static std::shared_ptr<PacketLink> start(net::Executor executor, UniqueFd socket, Handlers handlers);

  void post(std::string bytes, std::vector<UniqueFd> fds = {});
  net::awaitable<void> room();  // waits while more than 1 MiB is queued; returns when closed, too
  void close();
  bool is_open() const { return open_; }

  PacketLink(net::Executor executor, UniqueFd socket, Handlers handlers);

 private:
  net::awaitable<void> read();
  net::awaitable<void> write();
  void ended();

  net::Executor executor_;
  net::PacketSocket socket_;
  Handlers handlers_;
  net::Signal changed_;
  std::deque<net::Packet> queue_;
  std::size_t queued_bytes_ = 0;
  bool open_ = true;
};

}  // namespace godwit::jobs
