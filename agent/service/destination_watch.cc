// What a destination does by itself: notices failures, asks a source that is silent, goes on after a restart.
#include "agent/service/destination_migration.h"
#include "common/base/log.h"

namespace godwit::service {
// A failure while building ends the attempt. A prepared copy needs neither job nor session nor source any more.
void DestinationMigration::failed(Error why) {
  if (stopped_ || failure_ || phase() != DestinationPhase::building) return;
  failure_ = why;
  changed_.notify();
  if (job_) job_->interrupt();
  net::spawn(context_.executor, "destination.failed", own_failure(std::move(why)));
}

net::awaitable<void> DestinationMigration::own_failure(Error why) {
  const auto self = shared_from_this();
  const auto hold = co_await turn_.take();
  if (phase() == DestinationPhase::building) co_await give_up(std::move(why));
}

net::awaitable<SourcePhase> DestinationMigration::ask_source() {
  const auto self = shared_from_this();
  const auto channel = channel_.lock();
  if (!channel || !channel->is_open()) fail(Errc::peer_lost, "there is no connection from the source");
  api::Envelope request;
  fill(request.mutable_query_source()->mutable_id(), key_);
  const api::Envelope reply = co_await channel->ask(std::move(request), context_.options.limits.question);
  if (!reply.has_source_state()) fail(Errc::protocol, "the source does not answer with its state");
  const auto said = static_cast<SourcePhase>(reply.source_state().phase());
  co_await act_on(said);
  co_return said;
}

// Only the source's word counts here: it has let its copy go, or lost it and thereby permits the commit.
net::awaitable<void> DestinationMigration::act_on(SourcePhase source) {
  const auto self = shared_from_this();
  if (source == SourcePhase::aborted || source == SourcePhase::thawed) {
    if (phase() == DestinationPhase::building && job_) job_->interrupt();
    const auto hold = co_await turn_.take();
    if (allowed(phase(), DestinationPhase::refused)) {
      co_await give_up(Error(Errc::cancelled, "the source has let its copy go"));
    }
  } else if (source == SourcePhase::lost) {
    const auto hold = co_await turn_.take();
    if (phase() != DestinationPhase::prepared) co_return;
    if (!copy_intact()) {
      co_await give_up(Error(Errc::target_gone, "the restored copy is not there any more"));
      co_return;
    }
    context_.records.enter(record(), DestinationPhase::committed);
    co_await resume();
  }
}

net::awaitable<api::Envelope> DestinationMigration::settled(api::Settled settled) {
  const auto self = shared_from_this();
  const auto said = static_cast<SourcePhase>(settled.phase());
  if (!final(said) || settled.phase() < api::SOURCE_NONE || settled.phase() > api::SOURCE_LOST) {
    fail(Errc::protocol, "a source that is not over says that it is settled");
  }
  co_await act_on(said);
  if (const Record* r = context_.records.find(key_); r && r->is_final()) {
    context_.records.settle(key_);
    over_ = true;
  } else if (r && said == SourcePhase::killed) {
    fail(Errc::busy, "the destination is {}", name(phase()));
  }
  api::Envelope answer;
  answer.mutable_ok();
  co_return answer;
}

net::awaitable<void> DestinationMigration::watch() {
  const auto self = shared_from_this();
  const Limits& limits = context_.options.limits;
  while (!stopped_ && !over_) {
    co_await net::sleep_for(limits.ask_interval);
    const auto silent = Clock::now() - heard_;
    const auto channel = channel_.lock();
    const bool connected = channel && channel->is_open();
    if (phase() == DestinationPhase::building && !connected && silent > limits.idle) {
      failed(Error(Errc::timed_out, "the source has gone"));
    } else if (phase() == DestinationPhase::prepared && connected && silent > limits.refuse_after) {
      heard_ = Clock::now();
      try {
        co_await ask_source();
      } catch (const Error& e) {
        log::debug("destination.ask", {{"migration", key_.migration}, {"message", e.message()}});
      }
    } else if (final(phase())) {
      co_return;
    }
  }
}

net::awaitable<void> DestinationMigration::recover() {
  const auto self = shared_from_this();
  const auto hold = co_await turn_.take();
  const Record r = *context_.records.find(key_);
  root_ = r.pid;
  start_time_ = r.start_time;
  if (r.token != decltype(r.token){}) commit_hash_ = r.token;
  if (!r.is_final())
    log::info("destination.recover", {{"migration", key_.migration}, {"phase", name(r.destination())}});
  switch (r.destination()) {
    case DestinationPhase::none: over_ = true; break;
    case DestinationPhase::building: co_await give_up(Error(Errc::cancelled, "the agent was restarted")); break;
    case DestinationPhase::prepared:
      if (copy_intact()) {
        net::spawn(context_.executor, "destination.watch", watch());
      } else {
        co_await give_up(Error(Errc::target_gone, "the restored copy did not survive the restart"));
      }
      break;
    case DestinationPhase::committed: try { co_await resume();
      } catch (const Error& e) {
        log::error("destination.recover", {{"migration", key_.migration}, {"message", e.message()}});
      }
      break;
    case DestinationPhase::refused:
    case DestinationPhase::lost: co_await destroy_copy(); [[fallthrough]];
    case DestinationPhase::resumed: over_ = r.settled; break;
  }
  // The last life may have ended between this record and the list of workloads.
  const workload::Saved* saved = context_.workloads->find(r.workload);
  if (phase() == DestinationPhase::resumed && saved && saved->cgroup() == r.cgroup &&
      saved->info().state() == "prepared") {
    context_.workloads->running(r.workload);
  }
}

}  // namespace godwit::service
