// What a destination does by itself: notices failures, asks a source that is silent, goes on after a restart.
#include "agent/service/destination_migration.h"
#include "agent/service/relay.h"
#include "agent/workload/closed_network.h"
#include "common/base/log.h"

namespace godwit::service {
namespace {

constexpr auto longest_pause = std::chrono::seconds(10);

}  // namespace

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
  api::Envelope request;
  fill(request.mutable_query_source()->mutable_id(), key_);
  const api::Envelope reply = co_await ask_peer(std::move(request));
  if (!reply.has_source_state()) fail(Errc::protocol, "the source does not answer with its state");
  const auto said = static_cast<SourcePhase>(reply.source_state().phase());
  co_await act_on(said);
  co_return said;
}

// Over the channel that the source has dialled; where it does not work, by way of the coordinator.
net::awaitable<api::Envelope> DestinationMigration::ask_peer(api::Envelope request) {
  const auto self = shared_from_this();
  const auto channel = channel_.lock();
  if (channel && channel->is_open()) {
    try {
      co_return co_await channel->ask(request, context_.options.limits.question);
    } catch (const Error& e) {
      if (channel->is_open() && e.errc() != Errc::timed_out)  // it has answered, whatever that is
        throw Error(is_silence(e) ? Errc::refused : e.errc(), e.message(), e.hint());
      log::debug("destination.ask", {{"migration", key_.migration}, {"message", e.message()}});
    }
  }
  RelayRoute route{.key = key_, .to_source = true, .to_node = source_node()};
  co_return co_await ask_by_relay(context_, relay_key_, std::move(route), std::move(request));
}

net::awaitable<api::Envelope> DestinationMigration::relayed(api::Relay relay) {
  const auto self = shared_from_this();
  api::Envelope request = open_relayed(relay_key_, relay);
  auto answering = answer_source(std::move(request));
  co_return co_await answer_relayed(relay_key_, std::move(relay), std::move(answering));
}

net::awaitable<api::Envelope> DestinationMigration::answer_source(api::Envelope request) {
  const auto self = shared_from_this();
  if (request.has_query()) co_return state();
  if (request.has_refuse()) co_return co_await refuse();
  if (request.has_settled()) co_return co_await settled(request.settled());
  fail(Errc::protocol, "a destination does not answer this by way of the coordinator");
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
    if (phase() == DestinationPhase::building && job_) job_->interrupt();
    const auto hold = co_await turn_.take();
    if (phase() == DestinationPhase::building || phase() == DestinationPhase::none) {
      co_await give_up(Error(Errc::target_gone, "the source has lost its copy"));
      co_return;
    }
    if (phase() != DestinationPhase::prepared) co_return;
    if (!copy_intact()) {  // held or not: there is no other
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
  // Nobody goes on with this one once it is over. If this fails, on a full disk say, the source asks again.
  if (phase() == DestinationPhase::resumed) co_await after_resumed();
  api::Envelope answer = state();
  if (runs_beside(said)) answer.mutable_destination_state()->set_copy_runs(true);
  if (const Record* r = context_.records.find(key_); r && r->is_final()) {
    context_.records.settle(key_);
    over_ = true;
  } else if (r && !answer.destination_state().copy_runs()) {
    fail(Errc::busy, "the destination is {}", name(phase()));
  }
  co_return answer;
}

// Two copies, if the source's is there: an operator has let one of them run because the other one's node was said to be
// off, and it was not. Neither may be killed by a program. Whether there are two the source knows, which raises the
// alarm.
bool DestinationMigration::runs_beside(SourcePhase source) {
  if (source != SourcePhase::thawed) return false;
  if (phase() != DestinationPhase::committed && phase() != DestinationPhase::resumed) return false;
  const Record r = record();
  const auto copy = living_copy(context_, r);
  if (!copy || copy->frozen()) return false;
  log::warn("destination.runs_beside_thawed",
            {{"migration", key_.migration}, {"workload", r.workload}, {"source", r.peer_node}});
  return true;
}

// Until nothing is left to do: what the phase asks for and has not come to its end, a record that could not be written
// among it, is done again. Every act is idempotent and takes its turn.
net::awaitable<void> DestinationMigration::pursue() {
  const auto self = shared_from_this();
  const Clock::duration tick = context_.options.limits.ask_interval;
  Clock::duration pause = tick;
  while (!stopped_ && !over_) {
    co_await net::sleep_for(pause);
    if (stopped_ || over_) co_return;
    std::exception_ptr problem;
    bool done = false;
    try {
      done = co_await go_on();
    } catch (...) {
      problem = std::current_exception();
    }
    if (done) co_return;
    pause = problem ? std::min<Clock::duration>(2 * pause, longest_pause) : tick;
    if (problem)
      log::warn("destination.pursue", {{"migration", key_.migration}, {"message", net::to_error(problem).message()}});
  }
}

// Whether the rest is for the source to say.
net::awaitable<bool> DestinationMigration::go_on() {
  const auto self = shared_from_this();
  switch (phase()) {
    case DestinationPhase::none: break;
    case DestinationPhase::building: {
      const auto channel = channel_.lock();
      const bool connected = channel && channel->is_open();
      if (!failure_ && !connected && Clock::now() - heard_ > context_.options.limits.idle)
        failed(Error(Errc::timed_out, "the source has gone"));
      else if (failure_)
        co_await own_failure(*failure_);
      break;
    }
    case DestinationPhase::prepared:
      if (!co_await refuse_if_gone()) co_await ask_silent_source();
      break;
    case DestinationPhase::committed: {
      const auto hold = co_await turn_.take();
      if (phase() == DestinationPhase::committed) co_await resume();
      break;
    }
    case DestinationPhase::refused:
    case DestinationPhase::lost:
      co_await discard_copy();
      if (const Record* r = context_.records.find(key_); !r || r->settled) over_ = true;
      co_return true;
    case DestinationPhase::resumed: co_await after_resumed(); co_return true;
  }
  co_return false;
}

// The record may be the last thing that was done.
net::awaitable<void> DestinationMigration::after_resumed() {
  const auto self = shared_from_this();
  const Record r = record();
  thawed_root_.reset();  // still there if that record was taken for one that could not be written
  if (const auto copy = living_copy(context_, r)) workload::open_network(*copy);
  co_await release();
  const workload::Saved* saved = context_.workloads->find(r.workload);
  if (saved && saved->cgroup() == r.cgroup && saved->info().state() != "exited")
    context_.workloads->running(r.workload);
}

// A prepared copy that is not there any more, killed for want of memory say, or not whole: the source need not stand
// still until somebody commits it.
net::awaitable<bool> DestinationMigration::refuse_if_gone() {
  const auto self = shared_from_this();
  const auto hold = co_await turn_.take();
  if (phase() != DestinationPhase::prepared || copy_intact()) co_return false;
  co_await give_up(Error(Errc::target_gone, "the restored copy is not there any more"));
  co_return true;
}

net::awaitable<void> DestinationMigration::ask_silent_source() {
  if (Clock::now() - heard_ <= context_.options.limits.refuse_after) co_return;
  heard_ = Clock::now();
  try {
    co_await ask_source();
  } catch (const Error& e) {
    log::debug("destination.ask", {{"migration", key_.migration}, {"message", e.message()}});
  }
}

net::awaitable<void> DestinationMigration::recover() {
  const auto self = shared_from_this();
  const Record r = *context_.records.find(key_);
  root_ = r.pid;
  start_time_ = r.start_time;
  if (r.token != TokenBytes{}) commit_hash_ = r.token;
  relay_key_ = r.relay_key;
  source_boot_ = r.peer_boot;
  source_store_ = r.peer_store;
  resolved_ = r.resolved;
  if (!r.is_final())
    log::info("destination.recover", {{"migration", key_.migration}, {"phase", name(r.destination())}});
  over_ = r.destination() == DestinationPhase::none;
  if (over_) co_return;
  may_have_run_ = r.destination() == DestinationPhase::committed;
  if (r.destination() == DestinationPhase::building) failure_ = Error(Errc::cancelled, "the agent was restarted");
  net::spawn(context_.executor, "destination.pursue", pursue());
  if (r.destination() == DestinationPhase::prepared) {
    const auto hold = co_await turn_.take();
    if (!copy_intact()) co_await give_up(Error(Errc::target_gone, "the restored copy did not survive the restart"));
    co_return;
  }
  co_await go_on();
  if (r.is_final() && r.settled) over_ = true;
}

}  // namespace godwit::service
