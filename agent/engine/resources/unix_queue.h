// Messages that wait in a unix socket: looked at without taking them, and sent again.
#pragma once

#include "agent/engine/resources/fd_view.h"

#include <string>
#include <vector>

namespace godwit::engine::resources {

// A stream is cut anywhere. Errc::busy for what cannot be sent again as it was (descriptors in flight, senders'
// credentials or names) but will be gone when the owner has read it.
std::vector<std::string> peek_unix_queue(const FdView& view);

// Sends through `sender`, the other end; its send buffer is enlarged as needed and left to be set afterwards.
void send_messages(int sender, const std::vector<std::string>& messages);

}  // namespace godwit::engine::resources
