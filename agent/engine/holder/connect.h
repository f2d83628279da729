// The socket of a holder, for those who need no more than to reach it or to be rid of it.
#pragma once

#include "common/base/fd.h"

#include <cstdint>

#include <sys/types.h>
#include <sys/un.h>

namespace godwit::engine::holder {

// Where the node's agent listens for holders to start.
inline constexpr const char* agent_socket = "/run/godwit-agent/trackers";

sockaddr_un address_of(pid_t pid, std::uint64_t start_time);

// Connected to the socket at this path; empty when nobody listens there.
UniqueFd connect_to(const char* path);

// Connected to the holder of this process; empty when there is none.
UniqueFd connect_to(pid_t pid, std::uint64_t start_time);

// Waits for the end of a holder that is on its way to it. False: it lives on.
bool comes_to_its_end(int holder_pidfd);

// Tracking by a holder ends, if there is any: two trackers would take each other's pages away. Waits for the end of it.
void dismiss(pid_t pid);

}  // namespace godwit::engine::holder
