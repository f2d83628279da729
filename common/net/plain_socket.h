// Plain TCP sockets, for programs that do one thing at a time.
//
// Sockets are non-blocking, with small packets sent at once. Errors: Errc::peer_lost, Errc::timed_out,
// Errc::invalid_argument for addresses that are none.
#pragma once

#include "common/base/fd.h"
#include "common/base/units.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace godwit::net {

// When something has to have happened.
using Deadline = Clock::time_point;
inline Deadline in(std::chrono::milliseconds limit) { return Clock::now() + limit; }

// `host` is a number or a name. Tries each of its addresses. However long the other side may be silent, a host that has
// gone is noticed within a minute (keepalive).
UniqueFd dial(const std::string& host, std::uint16_t port, std::chrono::milliseconds limit);

// An empty host is any address, IPv6 and IPv4; port 0 takes a free one.
UniqueFd listen_on(const std::string& host, std::uint16_t port, int backlog);
UniqueFd accept_one(int listener, Deadline deadline);

std::string local_address(int socket);  // "127.0.0.1:4711"
std::string peer_address(int socket);   // the same; "a socket" for other families

// Takes over a connected stream socket that somebody passed on.
void adopt_stream(int socket);

// For a connection that moves bulk data: where the round trip is short, buffers in the kernel that hold what can be
// under way and no more. The kernel's own sizing goes on to several MiB, which are out of the caches when they are
// read. Elsewhere nothing is changed.
void fit_buffers(int socket);

}  // namespace godwit::net
