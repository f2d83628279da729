// The engine's end of the control socket: one message per packet, descriptors riding along.
//
// Blocking calls have a limit. Errors: Errc::peer_lost when the agent has gone, Errc::protocol for what cannot be read.
#pragma once

#include "agent/engine/job.pb.h"
#include "common/base/fd.h"

#include <chrono>
#include <optional>
#include <vector>

namespace godwit::engine {

struct Received {
  Command command;
  std::vector<UniqueFd> fds;
};

class ControlSocket {
 public:
  explicit ControlSocket(UniqueFd socket);

  // Nothing within the limit: nothing. Zero polls; a negative limit waits for ever.
  std::optional<Received> receive(std::chrono::milliseconds limit);
  void send(const Event& event);

 private:
  UniqueFd socket_;
  std::vector<char> packet_;  // as large as the largest packet: touched once
};

}  // namespace godwit::engine
