// A netlink socket that tells of sockets. It sees those of the network namespace that it was made in.
#pragma once

#include "common/base/fd.h"

namespace godwit::engine::resources {

// Of the namespace that socket `fd` belongs to.
UniqueFd open_sock_diag_beside(int fd);

}  // namespace godwit::engine::resources
