// One packet with at most one descriptor, between the engine and the helper of a restore.
#pragma once

#include "common/base/fd.h"

#include <string>

namespace godwit::engine {

struct Message {
  std::string text;  // empty: the other side has gone
  UniqueFd fd;
};

void send_message(int socket, const std::string& text, int fd = -1);
Message receive_message(int socket);

}  // namespace godwit::engine
