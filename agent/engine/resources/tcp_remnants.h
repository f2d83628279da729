// What dead TCP connections leave on a port: TIME_WAIT and half-closed sockets that no process holds.
//
// They keep a listener without SO_REUSEADDR from binding for a minute, also one that comes back to a host that it
// left (or never left: the copy that was killed here). Nobody misses them: a peer that still talks gets a reset.
#pragma once

#include "agent/engine/resources/netlink.h"

#include <cstdint>
#include <vector>

#include <linux/inet_diag.h>

namespace godwit::engine::resources {

// Removes those whose local port this is, in the network namespace of this process. Returns how many. As root.
int remove_tcp_remnants(std::uint16_t port);

// Adds those of one datagram of the kernel's answer to a question about `port`. False: it was the last one.
bool collect_remnants(netlink::Bytes answer, std::uint16_t port, std::vector<inet_diag_sockid>& found);

}  // namespace godwit::engine::resources
