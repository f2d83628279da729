#include "agent/service/relay.h"

#include "common/net/channel.h"

namespace godwit::service {
namespace {

constexpr std::string_view version = "godwit relay 2";

void append_counted(std::string& to, std::string_view bytes) {
  const std::uint64_t size = bytes.size();
  to.append(reinterpret_cast<const char*>(&size), sizeof size);
  to.append(bytes);
}

// Every part is counted, so that no two sets of parts give the same bytes.
TokenBytes mac_of(const TokenBytes& key, const api::Relay& relay, std::string_view in_answer_to) {
  std::string bytes;
  append_counted(bytes, version);
  append_counted(bytes, relay.id().migration());
  append_counted(bytes, std::to_string(relay.id().epoch()));
  append_counted(bytes, relay.to_source() ? "to source" : "to destination");
  append_counted(bytes, relay.nonce());
  append_counted(bytes, in_answer_to);
  append_counted(bytes, relay.envelope());
  return keyed_hash(key, bytes);
}

void seal(const TokenBytes& key, api::Relay& relay, std::string_view in_answer_to) {
  relay.set_mac(std::string(text_of(mac_of(key, relay, in_answer_to))));
}

api::Envelope unseal(const TokenBytes& key, const api::Relay& relay, std::string_view in_answer_to) {
  if (key == TokenBytes{}) throw never_met();
  if (!equal_in_constant_time(relay.mac(), text_of(mac_of(key, relay, in_answer_to))))
    fail(Errc::denied, "what was relayed is not what the other side has sent");
  api::Envelope envelope;
  if (!envelope.ParseFromString(relay.envelope())) fail(Errc::protocol, "what was relayed cannot be read");
  return envelope;
}

}  // namespace

Error never_met() { return {Errc::denied, "nothing can be relayed: the two sides have not met"}; }

net::awaitable<api::Envelope> ask_by_relay(Context& context, TokenBytes key, RelayRoute route, api::Envelope request) {
  if (key == TokenBytes{}) throw never_met();
  api::Envelope envelope;
  api::Relay& relay = *envelope.mutable_relay();
  fill(relay.mutable_id(), route.key);
  relay.set_to_node(route.to_node);
  relay.set_to_source(route.to_source);
  relay.set_envelope(request.SerializeAsString());
  relay.set_nonce(std::string(text_of(random_token())));
  seal(key, relay, {});
  api::Relay expected;  // where its answer comes from and goes to is not for the coordinator to say
  *expected.mutable_id() = relay.id();
  expected.set_to_source(!route.to_source);
  const std::string asked = relay.mac();
  const api::Envelope reply = co_await context.ask_coordinator(std::move(envelope));
  if (!reply.has_relay()) fail(Errc::protocol, "the coordinator does not answer with what it was to relay");
  expected.set_envelope(reply.relay().envelope());
  expected.set_mac(reply.relay().mac());
  const api::Envelope answer = unseal(key, expected, asked);
  if (answer.has_failure()) {
    const Error said = net::from_failure(answer.failure());
    throw Error(is_silence(said) ? Errc::refused : said.errc(), said.message(), said.hint());
  }
  co_return answer;
}

bool is_silence(const Error& error) {
  return error.errc() == Errc::peer_lost || error.errc() == Errc::timed_out || error.errc() == Errc::not_found;
}

api::Envelope open_relayed(const TokenBytes& key, const api::Relay& relay) { return unseal(key, relay, {}); }

net::awaitable<api::Envelope> answer_relayed(TokenBytes key, api::Relay relay,
                                             net::awaitable<api::Envelope> answering) {
  std::exception_ptr problem;
  api::Envelope answer;
  try {
    answer = co_await std::move(answering);
  } catch (...) {
    problem = std::current_exception();
  }
  if (problem) *answer.mutable_failure() = net::to_failure(net::to_error(problem));
  co_return relayed_answer(key, relay, answer);
}

api::Envelope relayed_answer(const TokenBytes& key, const api::Relay& request, const api::Envelope& answer) {
  api::Envelope envelope;
  api::Relay& relay = *envelope.mutable_relay();
  *relay.mutable_id() = request.id();
  relay.set_to_source(!request.to_source());
  relay.set_envelope(answer.SerializeAsString());
  seal(key, relay, request.mac());
  return envelope;
}

}  // namespace godwit::service
