// How a migration ends: the kill after the point of no return, the rollback before it, and reading the records of both
// sides when a step around the commit got no answer (docs/commit-protocol.md). None of this guesses.
#include "common/base/log.h"
#include "coordinator/migration/run.h"

namespace godwit::coordinator {
namespace {

using net::awaitable;

// A commit that the destination keeps refusing while it says `prepared` is left to the source, which asks it to give
// up.
constexpr unsigned most_recommits = 3;

}  // namespace

// The destination runs. The source's answer carries the downtime; a source that cannot be reached asks by itself.
awaitable<Event> Run::kill() {
  const Clock::time_point deadline = Clock::now() + limits_.patience;
  for (;;) {
    api::Envelope request;
    fill(request.mutable_kill_source()->mutable_id());
    const SourceAnswer source = co_await ask_source(std::move(request), &times_.kill);
    if (source && (source->phase() == api::SOURCE_KILLING || source->phase() == api::SOURCE_KILLED ||
                   source->phase() == api::SOURCE_LOST)) {
      m_.downtime_ns = believable(source->frozen_ns());
      pause_.reset();
      co_return Event::ok;
    }
    if (Clock::now() >= deadline) {
      note("the source could not be told to kill its frozen copy; it will ask the destination by itself");
      co_return Event::out_of_patience;
    }
    co_await net::sleep_for(limits_.interval);
  }
}

awaitable<Event> Run::roll_back() {
  const Clock::time_point deadline = Clock::now() + (froze_ ? limits_.patience : limits_.farewell);
  for (bool decided = false; !decided;) {
    const SourceAnswer source = co_await ask_source(abort_request());
    const bool last = Clock::now() >= deadline;
    if (source) {
      const bool same_store =
          source_store_.empty() || source->store_uuid().empty() || source->store_uuid() == source_store_;
      switch (source->phase()) {
        case api::SOURCE_NONE: decided = !froze_ || same_store; break;
        case api::SOURCE_THAWED: decided = !froze_ || same_store; break;  // a new store says so of what it never knew
        case api::SOURCE_ABORTED: decided = last; break;                  // written, so it will thaw; worth waiting for
        case api::SOURCE_ARMED: co_return Event::source_armed;
        case api::SOURCE_KILLING:
        case api::SOURCE_KILLED: co_return Event::source_killed;
        case api::SOURCE_LOST: co_return Event::source_lost;
        default: break;  // frozen still, or a phase of a newer agent
      }
    }
    if (decided) break;
    if (last && !froze_) {
      note("the source could not be told; it has nothing to undo but its engine job");
      break;
    }
    if (last) co_return Event::out_of_patience;
    co_await net::sleep_for(limits_.interval);
  }
  thawed_ns_ = static_cast<std::int64_t>(monotonic_ns());
  pause_.reset();
  co_await discard();
  if (rehearsed_) co_await conclude_rehearsal();
  co_return Event::ok;
}

api::Envelope Run::abort_request() const {
  api::Envelope request;
  fill(request.mutable_abort()->mutable_id());
  request.mutable_abort()->set_reason(why_rolled_back());
  return request;
}

std::string Run::why_rolled_back() const {
  if (m_.reason) return m_.reason->message;
  return rehearsed_ ? "the rehearsal is over" : "";
}

// After the source's word. A destination that does not hear this asks the source.
awaitable<void> Run::discard() {
  if (!asked_destination_) co_return;
  const Clock::time_point deadline = Clock::now() + limits_.farewell;
  for (;;) {
    api::Envelope request;
    fill(request.mutable_discard()->mutable_id());
    request.mutable_discard()->set_reason(why_rolled_back());
    if (co_await ask_destination(std::move(request))) co_return;
    if (Clock::now() >= deadline) break;
    co_await net::sleep_for(limits_.interval);
  }
  note("the destination could not be told to discard; it will ask the source by itself");
}

// Of one that was cancelled the source is asked first, and to undo: what is not armed thaws at once, and what is has
// the destination refuse. What that one says in the end counts here as well.
awaitable<Event> Run::read_records() {
  Clock::time_point deadline = Clock::now() + limits_.patience;
  for (;;) {
    SourceAnswer source;
    const bool undoes = cancelled_.has_value();
    if (undoes && !unchanged_) blame_cancel();
    if (undoes) source = co_await ask_source(abort_request());
    api::Envelope to_destination;
    fill(to_destination.mutable_query()->mutable_id());
    const DestinationAnswer destination = co_await ask_destination(std::move(to_destination));
    if (destination && !destination->boot_id().empty()) destination_boot_ = destination->boot_id();
    if (destination && destination->phase() == api::DESTINATION_RESUMED) co_return Event::destination_resumed;

    api::Envelope to_source;
    fill(to_source.mutable_query_source()->mutable_id());
    if (!cancelled_) source = co_await ask_source(std::move(to_source));
    if (cancelled_ && !undoes) {
      deadline = Clock::now() + limits_.patience;
      continue;
    }
    const bool last = Clock::now() >= deadline;
    if (source)
      if (const std::optional<Event> event = verdict(*source, destination, last)) co_return *event;
    if (last) co_return Event::out_of_patience;
    co_await giving_up_.wait_until(Clock::now() + limits_.interval);
  }
}

std::optional<Event> Run::verdict(const api::SourceState& source, const DestinationAnswer& destination, bool last) {
  switch (source.phase()) {
    case api::SOURCE_KILLED:
    case api::SOURCE_KILLING: m_.downtime_ns = believable(source.frozen_ns()); return Event::source_killed;
    case api::SOURCE_THAWED:
      if (!source_store_.empty() && source.store_uuid() != source_store_) return std::nullopt;
      no_longer_held();
      // Not armed yet when it was cancelled, perhaps: then the destination does not know.
      return cancelled_ ? Event::source_not_armed : Event::source_thawed;
    case api::SOURCE_ABORTED:
      if (cancelled_) return Event::source_not_armed;  // as above
      if (!last) return std::nullopt;
      no_longer_held();
      return Event::source_thawed;
    case api::SOURCE_FROZEN: return Event::source_not_armed;
    case api::SOURCE_NONE:
      // A store that was replaced knows nothing of what the old one promised.
      if (source_store_.empty() || source.store_uuid() != source_store_) return std::nullopt;
      return Event::source_not_armed;
    case api::SOURCE_ARMED:
      if (destination && destination->phase() == api::DESTINATION_LOST && destination->hold()) return held_after_loss();
      if (!cancelled_ && destination && destination->phase() == api::DESTINATION_PREPARED &&
          recommits_ < most_recommits) {
        recommits_++;
        return Event::still_prepared;
      }
      return std::nullopt;  // the source itself asks the destination to refuse, or learns that it has resumed
    case api::SOURCE_LOST:
      if (!destination ||
          !(destination->phase() == api::DESTINATION_REFUSED || destination->phase() == api::DESTINATION_LOST))
        return std::nullopt;  // it will commit, or give up, once it has heard
      if (!destination_store_.empty() && destination->store_uuid() != destination_store_) return std::nullopt;
      m_.reason =
          Reason{Errc::target_gone, "the workload died while the source held it, and the destination has no copy",
                 "see the workload's own output"};
      failed_in_ = m_.phase;  // past the point where a refusal would mean that nothing was touched
      registry_.gone(m_.spec.source, m_.spec.workload);
      return Event::both_gone;
    default: return std::nullopt;
  }
}

Reason Run::reason_while_held() const {
  return {Errc::target_gone,
          fmt::format("the copy on node '{}' was lost after it may have run: what it wrote into shared files is there, "
                      "and '{}' is held on node '{}'",
                      m_.spec.destination, m_.spec.workload, m_.spec.source),
          fmt::format("see to what both have written, then: godwit resolve {} --go-on", m_.id)};
}

bool Run::was_held() const { return m_.reason && m_.reason->message == reason_while_held().message; }

// Neither waiting nor asking brings anything more: an operator decides.
Event Run::held_after_loss() {
  if (!was_held()) unchanged_ = false;
  m_.reason = reason_while_held();
  return Event::out_of_patience;
}

// An operator has decided, if it was held.
void Run::no_longer_held() {
  if (!was_held()) return;
  m_.reason = Reason{Errc::target_gone,
                     fmt::format("the copy on node '{}' was lost after it may have run; '{}' goes on on node '{}'",
                                 m_.spec.destination, m_.spec.workload, m_.spec.source),
                     "what both have written into shared files is there"};
}

awaitable<Run::SourceAnswer> Run::ask_source(api::Envelope request, Exchange* times) {
  std::exception_ptr problem;
  try {
    if (times) *times = {.asked_ns = static_cast<std::int64_t>(monotonic_ns())};
    auto asking = ask(m_.spec.source, std::move(request), api::Envelope::kSourceState, limits_.question);
    api::Envelope reply = co_await answer_or(std::move(asking), cancelled_meanwhile());
    if (times) {
      times->answered_ns = static_cast<std::int64_t>(monotonic_ns());
      times->took_ns = believable(reply.took_ns());
    }
    co_return reply.source_state();
  } catch (const Error&) {
    problem = std::current_exception();
  }
  log::debug("migration.no_answer",
             {{"migration", m_.id}, {"node", m_.spec.source}, {"message", net::to_error(problem).message()}});
  co_return std::nullopt;
}

awaitable<Run::DestinationAnswer> Run::ask_destination(api::Envelope request) {
  std::exception_ptr problem;
  try {
    auto asking = ask(m_.spec.destination, std::move(request), api::Envelope::kDestinationState, limits_.question);
    api::Envelope reply = co_await answer_or(std::move(asking), cancelled_meanwhile());
    co_return reply.destination_state();
  } catch (const Error&) {
    problem = std::current_exception();
  }
  log::debug("migration.no_answer",
             {{"migration", m_.id}, {"node", m_.spec.destination}, {"message", net::to_error(problem).message()}});
  co_return std::nullopt;
}

}  // namespace godwit::coordinator
