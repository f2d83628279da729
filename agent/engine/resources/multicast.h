// Multicast groups that a socket has joined: nothing lists them per socket, but each of the host's can be asked about.
#pragma once

#include "agent/engine/resources/fd_view.h"

#include <optional>
#include <string>

namespace godwit::engine::resources {

// The first group found, as /proc/net/igmp or igmp6 name it; nothing when the socket is in none.
std::optional<std::string> joined_group(const FdView& view);

}  // namespace godwit::engine::resources
