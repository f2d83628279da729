// One side's words to the other by way of the coordinator, where their own channel does not work.
//
// Both know a key that nobody else does: the source tells it in its hello, over the channel between the two, and each
// has it in its record. What is relayed bears a MAC with it, over the migration, the direction, the words, in a
// question a nonce, and in an answer the MAC of the question. So a coordinator can lose words, keep them back and
// repeat a question, as any network can, which the protocol withstands; it cannot make them up, nor answer with what
// was said another time, to the same question either.
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
// does not fit, and what the other side says, which is never one of those that is_silence() knows: of what has failed
// there it answers with the failure under a MAC, and that is `refused` here.
net::awaitable<api::Envelope> ask_by_relay(Context& context, TokenBytes key, RelayRoute route, api::Envelope request);

// Whether nothing was heard of the other side, as far as an Error of ask_by_relay() tells.
bool is_silence(const Error& error);

// Errc::denied: of a migration that has no key.
Error never_met();

// What was sent so; Errc::denied when it was not, or when there is no key (all zeros).
api::Envelope open_relayed(const TokenBytes& key, const api::Relay& relay);
api::Envelope relayed_answer(const TokenBytes& key, const api::Relay& request, const api::Envelope& answer);

// The same of what is still to be found out; a failure is an answer, too.
net::awaitable<api::Envelope> answer_relayed(TokenBytes key, api::Relay relay, net::awaitable<api::Envelope> answering);

}  // namespace godwit::service
