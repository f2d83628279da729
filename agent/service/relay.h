// One side's words to the other by way of the coordinator, where their own channel does not work.
//
// Both know a key that nobody else does: the source tells it in its hello, over the channel between the two, and each
// has it in its record. What is relayed bears a MAC with it, over the migration, the direction, the words, and in an
// answer also the MAC of the request. So a coordinator can lose words, keep them back and repeat a request, as any
// network can, which the protocol withstands; it cannot make them up, nor answer with what was said another time.
#pragma once

#include "agent/service/context.h"
#include "agent/service/token.h"

namespace godwit::service {

struct RelayRoute {
  Key key;  // of the migration; its side says nothing
  bool to_source = false;
  std::string to_node;
};

// The answer to `request`. Errors: peer_lost without a coordinator or without the other node there, denied when a MAC
// does not fit, and what the other side says.
net::awaitable<api::Envelope> ask_by_relay(Context& context, TokenBytes key, RelayRoute route, api::Envelope request);

// What was sent so; Errc::denied when it was not, or when there is no key (all zeros).
api::Envelope open_relayed(const TokenBytes& key, const api::Relay& relay);
api::Envelope relayed_answer(const TokenBytes& key, const api::Relay& request, const api::Envelope& answer);

}  // namespace godwit::service
