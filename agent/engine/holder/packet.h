// One message per datagram between a command and a holder, descriptors riding along.
#pragma once

#include "common/base/fd.h"

#include <vector>

#include <google/protobuf/message_lite.h>

namespace godwit::engine::holder {

void send(int socket, const google::protobuf::MessageLite& message, const std::vector<int>& fds = {});

// Waits for the next message, or for the other side to go: then Errc::peer_lost.
std::vector<UniqueFd> receive(int socket, google::protobuf::MessageLite& message);

}  // namespace godwit::engine::holder
