// Multicast groups that a socket has joined: nothing lists them per socket, but each of the host's can be asked about.
#pragma once

#include "agent/engine/resources/fd_view.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <sys/socket.h>

namespace godwit::engine::resources {

struct MulticastGroup {
  std::uint32_t interface = 0;
  sockaddr_storage address{};
  std::string text;
};
std::vector<MulticastGroup> parse_igmp(const std::string& table);   // /proc/net/igmp
std::vector<MulticastGroup> parse_igmp6(const std::string& table);  // /proc/net/igmp6

// The first group found, as /proc/net/igmp or igmp6 name it; nothing when the socket is in none.
std::optional<std::string> joined_group(const FdView& view);

}  // namespace godwit::engine::resources
