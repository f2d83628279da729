// One message per datagram between a command and a holder, descriptors riding along.
#pragma once

#include "common/base/fd.h"

#include <chrono>
#include <optional>
#include <vector>

#include <google/protobuf/message_lite.h>

namespace godwit::engine::holder {

void send(int socket, const google::protobuf::MessageLite& message, const std::vector<int>& fds = {});

// Waits for the next message, or for the other side to go: then Errc::peer_lost. Errc::timed_out after `limit`.
std::vector<UniqueFd> receive(int socket, google::protobuf::MessageLite& message,
                              std::optional<std::chrono::milliseconds> limit = {});

}  // namespace godwit::engine::holder
