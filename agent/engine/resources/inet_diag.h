// What netlink alone says of a TCP socket: whether it has keys to sign its segments with (TCP_MD5SIG). Of listeners;
// one that is merely bound is not listed.
#pragma once

#include "agent/engine/resources/fd_view.h"
#include "agent/engine/resources/netlink.h"

#include <optional>

namespace godwit::engine::resources {

bool has_md5_keys(const FdView& view);

// One datagram of a list: whether the socket with this inode has keys; nothing when it is not there. `more`: whether
// another datagram follows.
std::optional<bool> find_md5_keys(netlink::Bytes answer, std::uint32_t inode, bool& more);

}  // namespace godwit::engine::resources
