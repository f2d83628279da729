// A SOCK_SEQPACKET socket between two programs of this node: whole messages, and descriptors that ride along.
//
// One receive and one send at a time; on the executor's thread. Failures: peer_lost, protocol, cancelled.
#pragma once

#include "common/base/passed_fds.h"
#include "common/net/async.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace godwit::net {

inline constexpr std::size_t max_packet = 256 * 1024;
inline constexpr std::size_t max_packet_fds = PassedFds::most;

struct Packet {
  std::string bytes;
  std::vector<UniqueFd> fds;
};

class PacketSocket {
 public:
  PacketSocket(Executor executor, UniqueFd socket);
  ~PacketSocket();
  PacketSocket(PacketSocket&&) = default;

  awaitable<std::optional<Packet>> receive();  // nothing: the other side has closed
  awaitable<void> send(Packet packet);
  void close();

  struct Impl;

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace godwit::net
