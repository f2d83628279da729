// What an operator decides about an armed source whose destination does not come back, or has lost a copy that may have
// run: `godwit resolve`.
//
// A copy that is held after a loss goes on when somebody says so. Any other (docs/commit-protocol.md) only while the
// destination's node is off: then whatever it held is gone, and its record ends without a copy when it returns. Nobody
// here can see that a silent node is off, so somebody has to state it, and his name is kept. What speaks against it is
// looked at, though: a node that answers is not off.
#include "agent/service/relay.h"
#include "agent/service/resolution.h"
#include "agent/service/source_migration.h"
#include "common/base/log.h"

namespace godwit::service {

net::awaitable<api::Envelope> SourceMigration::resolve(api::Resolve request) {
  return steps_.joined("resolve", [self = shared_from_this(), request] { return self->do_resolve(request); });
}

net::awaitable<api::Envelope> SourceMigration::do_resolve(api::Resolve request) {
  check_request(request);
  if (!request.destination_is_off() && !request.go_on())
    throw Error(Errc::invalid_argument,
                "nobody states that the destination's node is off, or that the copy here goes on",
                "a copy that it holds may run: only the end of that node is the end of the copy");
  if (resolved_ && phase() != SourcePhase::armed) co_return state();
  if (phase() != SourcePhase::armed)
    throw Error(Errc::refused, fmt::format("the source is {}, not armed", name(phase())),
                "there is nothing to resolve: `godwit ps` tells where the workload is");
  if (request.go_on()) {
    co_await check_held();
  } else {
    if (!known_to_be_gone(destination_known(), request, its_record())) co_await check_silent();
  }
  const auto hold = co_await turn_.take();
  if (phase() != SourcePhase::armed || enter_lost()) co_return state();  // decided meanwhile
  const std::string statement =
      request.go_on() ? fmt::format("knows that its copy on node '{}' (boot {}) may have run", peer_node_, peer_boot_)
                      : fmt::format("states that node '{}' (boot {}) is off", peer_node_, peer_boot_);
  write_down(context_.options.state, key_, tree_.workload, request.by(), statement);
  log::warn("source.resolved", {{"migration", key_.migration}, {"by", request.by()}, {"destination", peer_node_}});
  failure_ = Error(Errc::cancelled, fmt::format("{} {}", request.by(), statement));
  resolved_ = true;
  std::exception_ptr problem;
  try {
    co_await let_go();
  } catch (...) {
    problem = std::current_exception();
  }
  if (problem) {  // after a failed write the record may be either, and asking for it may fail as well
    resolved_ = false;
    resolved_ = phase() != SourcePhase::armed;
  }
  if (problem) std::rethrow_exception(problem);
  co_return state();
}

// What the destination's copy has written into files that this node sees as well is there, and the copy here would go
// on from before it. Nobody here knows what that means for the workload.
void SourceMigration::hold_after_loss() {
  if (held_) return;
  held_ = true;
  log::error("source.held", {{"migration", key_.migration}, {"workload", tree_.workload}, {"destination", peer_node_}});
}

// `lost` is final: once it has been told, the destination need not be asked again.
net::awaitable<void> SourceMigration::check_held() {
  const auto self = shared_from_this();
  if (held_) co_return;
  const DestinationPhase there = co_await ask_destination(false);
  if (held_ || phase() != SourcePhase::armed) co_return;
  throw Error(Errc::refused, fmt::format("the copy is not held for a loss: the destination is {}", name(there)),
              "its record decides as soon as the source hears of it; `godwit watch` tells");
}

KnownPeer SourceMigration::destination_known() const { return {peer_node_, peer_boot_, peer_store_}; }

std::string SourceMigration::its_record() const {
  return held_ ? "it has lost a copy that may have run: `godwit resolve --go-on` lets the one here go on"
               : "its record decides as soon as the source hears of it; `godwit watch` tells";
}

net::awaitable<void> SourceMigration::check_silent() {
  const auto self = shared_from_this();
  api::Envelope question;
  fill(question.mutable_query()->mutable_id(), key_);
  std::optional<api::DestinationState> there;
  try {
    const api::Envelope answer = co_await ask_peer(std::move(question));
    if (!answer.has_destination_state()) fail(Errc::protocol, "node '{}' does not answer with its state", peer_node_);
    there = answer.destination_state();
  } catch (const Error& e) {
    // An agent that refuses to talk, or whose words cannot be believed, is there all the same.
    if (!is_silence(e) || (peer()->connected() && e.errc() != Errc::timed_out)) throw;
    log::info("source.resolve", {{"migration", key_.migration}, {"message", e.message()}});
  }
  if (there) check_off(destination_known(), there->boot_id(), there->store_uuid(), its_record());
}

// The answer to Settled. One of the two was let run on an operator's word, and the other runs as well: that node was
// not off.
bool SourceMigration::is_alarming(const api::DestinationState& there) {
  if (phase() != SourcePhase::thawed || !there.copy_runs()) return false;
  if (!workload::find_process(tree_.root, tree_.start_time)) return false;  // the one here has been ended
  const Error two(
      Errc::already_exists,
      fmt::format("two copies of '{}' run: here on node '{}' and on node '{}': the one that was said to be off was not",
                  tree_.workload, context_.options.node, peer_node_),
      "end one of them at once, with `godwit kill --from NODE`; whatever both have written has to be sorted "
      "out by hand");
  log::error("source.two_copies",
             {{"migration", key_.migration}, {"workload", tree_.workload}, {"message", two.message()}});
  api::Envelope alarm;
  fill(alarm.mutable_alarm()->mutable_id(), key_);
  *alarm.mutable_alarm()->mutable_failure() = net::to_failure(two);
  context_.tell_coordinator(std::move(alarm));
  return true;
}

}  // namespace godwit::service
