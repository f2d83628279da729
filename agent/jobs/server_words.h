// What the page server tells its agent, read. It faces the network, so its words are not trusted either.
#pragma once

#include "pageserver/control.pb.h"

#include <string>

namespace godwit::jobs {

// Errc::protocol for what no page server says: no message, an empty one, an address that is none, a stream beyond
// those that a session can have.
pageserver::FromServer parse_server_words(const std::string& bytes);

}  // namespace godwit::jobs
