// The options of IP and TCP that CRIU has fields for. Everything else that a socket may have set is among the further
// options of socket_options.h, which carry these too: an image of CRIU's has only what is here.
#pragma once

#include "agent/engine/resources/fd_view.h"
#include "common/image/socket.pb.h"

namespace godwit::engine::resources {

void dump_protocol_options(const FdView& view, image::InetSkEntry& into);
// Before restore_socket_options, which knows more.
void restore_protocol_options(int fd, const image::InetSkEntry& from);

}  // namespace godwit::engine::resources
