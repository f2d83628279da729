// What an operator decides (`godwit resolve`), as both sides see it: who says it, whether it may be believed, and where
// it is kept.
//
// That a silent node is off nobody here can see, so somebody has to state it, and his name is kept. What speaks against
// it is looked at, though: a node that answers is not off (docs/commit-protocol.md).
#pragma once

#include "agent/service/context.h"
#include "agent/service/records.h"
#include "common/api/control.pb.h"

#include <string>

namespace godwit::service {

// Whose records and which boot of the other node this side has dealt with.
struct KnownPeer {
  std::string node, boot, store;
};

// Somebody has to say it, and one thing is decided at a time: Errc::invalid_argument.
void check_request(const api::Resolve& request);

// Errc::refused when the peer is not off by what its agent has said of itself. Its records were replaced and it was
// booted anew: then its answers prove nothing, but its copy is gone.
void check_off(const KnownPeer& peer, const std::string& boot, const std::string& store, const std::string& hint);
// The same, by what the coordinator knows. True: it is registered, as one whose copy is gone, and need not be asked.
bool known_to_be_gone(const KnownPeer& peer, const api::Resolve& request, const std::string& hint);

// In `<state>/resolutions`, in text, for as long as the records are: before anything is done about it.
void write_down(const std::string& state, const Key& key, const std::string& workload, const std::string& by,
                const std::string& statement);

}  // namespace godwit::service
