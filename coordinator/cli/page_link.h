// The way of a local dump to a page server. The engine has no network: this program connects, or puts a relay in
// between that speaks TLS, and the engine gets a connected socket.
#pragma once

#include "agent/engine/commands/options.h"
#include "common/base/fd.h"

namespace godwit::cli {

// A connected socket that a program executed from here inherits. Errc::peer_lost, Errc::timed_out.
UniqueFd open_page_link(const engine::commands::PageServerOptions& server);

}  // namespace godwit::cli
