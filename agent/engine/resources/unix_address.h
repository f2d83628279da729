// Names of unix sockets: binding, and making way for it.
#pragma once

#include "common/image/socket.pb.h"

#include <string>

#include <sys/socket.h>
#include <sys/un.h>

namespace godwit::engine::resources {

struct UnixAddress {
  sockaddr_un storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// `name` as in sun_path, abstract ones with their leading NUL. Errc::image_corrupt when it is too long.
UnixAddress unix_address(const std::string& name);

std::string printable(const std::string& name);  // "/run/x.sock", "@abstract", "(unnamed)"

// Binds as the entry says: from the directory that a relative path started in, taking the place of a socket that
// nobody listens on any more, with the file's owner and mode. Errc::already_exists when somebody is there.
void bind_unix(int fd, const image::UnixSkEntry& entry);

}  // namespace godwit::engine::resources
