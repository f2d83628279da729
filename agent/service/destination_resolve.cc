// What an operator decides about a prepared copy whose source does not come back: `godwit resolve --source-is-off`.
//
// Whatever the source held, or ran, is gone with its node: this is as if the source had said that its copy is lost.
// Only, nobody but the operator can say so, and if the source had let its copy go before, what that has done since is
// gone with it.
#include "agent/service/destination_migration.h"
#include "agent/service/relay.h"
#include "agent/service/resolution.h"
#include "common/base/log.h"

namespace godwit::service {
namespace {

constexpr std::string_view its_record = "its record decides as soon as the two have heard of each other";

}  // namespace

net::awaitable<api::Envelope> DestinationMigration::resolve(api::Resolve request) {
  return steps_.joined("resolve", [self = shared_from_this(), request] { return self->do_resolve(request); });
}

net::awaitable<api::Envelope> DestinationMigration::do_resolve(api::Resolve request) {
  check_request(request);
  if (!request.source_is_off()) fail(Errc::invalid_argument, "nobody states that the source's node is off");
  if (resolved_ && phase() == DestinationPhase::resumed) co_return state();
  const auto undecided = [&] { return phase() == DestinationPhase::prepared; };
  if (!undecided() && !(resolved_ && phase() == DestinationPhase::committed))
    throw Error(Errc::refused, fmt::format("the destination is {}, not prepared", name(phase())),
                "there is nothing to resolve: `godwit ps` tells where the workload is");
  const KnownPeer source{.node = source_node(), .boot = source_boot_, .store = source_store_};
  if (undecided() && !known_to_be_gone(source, request, std::string(its_record))) co_await check_silent(source);
  const auto hold = co_await turn_.take();
  if (undecided()) {
    if (!copy_held()) {
      co_await give_up(Error(Errc::target_gone, "the restored copy is not there any more"));
      throw *failure_;
    }
    write_down(context_.options.state, key_, record().workload, request.by(),
               fmt::format("states that node '{}' (boot {}) is off", source.node, source.boot));
    log::warn("destination.resolved", {{"migration", key_.migration}, {"by", request.by()}, {"source", source.node}});
    Record r = record();
    r.resolved = true;
    context_.records.enter(std::move(r), DestinationPhase::committed);
    resolved_ = true;
  }
  if (phase() == DestinationPhase::committed) co_await resume();
  co_return state();
}

// An agent that refuses to talk, or whose words cannot be believed, is there all the same.
net::awaitable<void> DestinationMigration::check_silent(KnownPeer source) {
  const auto self = shared_from_this();
  api::Envelope question;
  fill(question.mutable_query_source()->mutable_id(), key_);
  std::optional<api::Envelope> answer;
  try {
    answer = co_await ask_peer(std::move(question));
  } catch (const Error& e) {
    if (!is_silence(e)) throw;
    log::info("destination.resolve", {{"migration", key_.migration}, {"message", e.message()}});
  }
  if (!answer) co_return;
  if (!answer->has_source_state()) fail(Errc::protocol, "the source does not answer with its state");
  check_off(source, answer->source_state().boot_id(), answer->source_state().store_uuid(), std::string(its_record));
}

}  // namespace godwit::service
