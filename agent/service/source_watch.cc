// What a source does by itself: notices failures, gives up when nobody drives it, goes on after a restart.
#include "agent/service/source_migration.h"
#include "agent/service/relay.h"
#include "common/base/log.h"

#include <algorithm>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

constexpr auto tick = 250ms;
constexpr auto longest_pause = 10s;

}  // namespace

jobs::EngineJob::Handlers SourceMigration::job_handlers() {
  const auto weak = weak_from_this();
  return {.absorbed = {}, .died = [weak](Error error) {
            if (const auto self = weak.lock()) self->failed(std::move(error));
          }};
}

PeerLink::Handlers SourceMigration::peer_handlers() {
  const auto weak = weak_from_this();
  return {.request = [weak](api::Envelope request) -> net::awaitable<api::Envelope> {
            const auto self = weak.lock();
            if (!self) fail(Errc::not_found, "the migration is over");
            return peer_request(self, std::move(request));
          },
          .notice = [weak](api::Envelope notice) -> net::awaitable<void> {
            const auto self = weak.lock();
            if (!self) fail(Errc::not_found, "the migration is over");
            return peer_notice(self, std::move(notice));
          },
          .lost =
              [weak](Error error) {
                if (const auto self = weak.lock()) self->failed(std::move(error));
              }};
}

std::shared_ptr<PeerLink> SourceMigration::peer() {
  if (!peer_) {
    PeerPlan plan{.key = key_,
                  .node = peer_node_,
                  .address = peer_address_,
                  .commit_hash = sha256(text_of(commit_token())),
                  .relay_key = relay_key()};
    peer_ = std::make_shared<PeerLink>(context_, std::move(plan), peer_handlers());
  }
  return peer_;
}

TokenBytes SourceMigration::relay_key() const {
  return secret_ == TokenBytes{} ? TokenBytes{} : keyed_hash(secret_, "relay");
}

net::awaitable<api::Envelope> SourceMigration::ask_peer(api::Envelope request) {
  const auto self = shared_from_this();
  std::exception_ptr problem;
  try {
    const auto link = peer();
    co_return co_await link->ask(request);
  } catch (...) {
    problem = std::current_exception();
  }
  const Error direct = net::to_error(problem);
  if (peer()->connected() && direct.errc() != Errc::timed_out) throw direct;  // it has answered
  try {
    RelayRoute route{.key = key_, .to_source = false, .to_node = peer_node_};
    co_return co_await ask_by_relay(context_, relay_key(), std::move(route), std::move(request));
  } catch (const Error& e) {
    if (!is_silence(e))  // it has answered that way, or somebody has in its name
      throw Error(e.errc(), fmt::format("by way of the coordinator: {}", e.message()), e.hint());
    throw Error(direct.errc(), fmt::format("{}; by way of the coordinator: {}", direct.message(), e.message()),
                direct.hint());
  }
}

net::awaitable<api::Envelope> SourceMigration::relayed(api::Relay relay) {
  const auto self = shared_from_this();
  api::Envelope request = open_relayed(relay_key(), relay);
  auto answering = peer_request(self, std::move(request));
  co_return co_await answer_relayed(relay_key(), std::move(relay), std::move(answering));
}

net::awaitable<api::Envelope> SourceMigration::peer_request(std::shared_ptr<SourceMigration> self,
                                                            api::Envelope request) {
  if (!request.has_query_source()) fail(Errc::protocol, "a source does not answer this");
  co_return self->state();
}

// The destination says that it proceeds, or that it has given up and why.
net::awaitable<void> SourceMigration::peer_notice(std::shared_ptr<SourceMigration> self, api::Envelope notice) {
  if (notice.has_destination_state() && !notice.has_failure()) self->told_ = Clock::now();
  if (notice.has_destination_state() && notice.has_failure()) {
    const Error why = net::from_failure(notice.failure());
    self->failed(Error(why.errc(), fmt::format("node '{}': {}", self->peer_node_, why.message()), why.hint()));
  }
  co_return;
}

void SourceMigration::interrupt(Error error) {
  if (!failure_) failure_ = std::move(error);
  changed_.notify();
  if (feed_) feed_->cancel(*failure_);
  if (asking_engine_ > 0 && job_) job_->interrupt();
}

// Before it is armed, whatever fails ends the attempt, and the copy runs on. Afterwards it changes nothing.
void SourceMigration::failed(Error error) {
  if (stopped_ || over_ || failure_ || settling_) return;
  // While its record cannot be read the failure is kept: pursue() comes back to it.
  std::optional<SourcePhase> now;
  try {
    now = phase();
  } catch (const Error& e) {
    log::warn("source.record", {{"migration", key_.migration}, {"message", e.message()}});
  }
  if (now && now != SourcePhase::none && now != SourcePhase::frozen) return;
  log::warn("source.failed", {{"migration", key_.migration},
                              {"phase", now ? name(*now) : "unknown"},
                              {"code", godwit::name(error.errc())},
                              {"message", error.message()}});
  const std::string reason = error.message();
  interrupt(std::move(error));
  net::spawn(context_.executor, "source.give_up", abort_unarmed(reason));
}

// Until the migration is over: what the phase asks for and has not come to its end, a record that could not be written
// among it, is done again. Every act is idempotent and takes its turn.
net::awaitable<void> SourceMigration::pursue() {
  const auto self = shared_from_this();
  Clock::duration pause = tick;
  while (!stopped_ && !over_) {
    co_await net::sleep_for(pause);
    if (stopped_ || over_) co_return;
    std::exception_ptr problem;
    try {
      co_await go_on();
    } catch (...) {
      problem = std::current_exception();
    }
    pause = problem ? std::min<Clock::duration>(2 * pause, longest_pause) : tick;
    if (problem)
      log::warn("source.pursue", {{"migration", key_.migration}, {"message", net::to_error(problem).message()}});
  }
}

net::awaitable<void> SourceMigration::go_on() {
  const auto self = shared_from_this();
  switch (phase()) {
    case SourcePhase::none:
    case SourcePhase::frozen:
      if (failure_)
        co_await abort_unarmed(failure_->message());
      else
        check_driven();
      break;
    case SourcePhase::aborted: {
      const auto hold = co_await turn_.take();
      if (phase() == SourcePhase::aborted) co_await let_go();
      break;
    }
    case SourcePhase::armed: {
      const auto hold = co_await turn_.take();
      if (phase() == SourcePhase::armed && !enter_lost() && !deciding_)
        net::spawn(context_.executor, "source.decide", decide());
      break;
    }
    case SourcePhase::killing: co_await kill_copy(); break;
    case SourcePhase::thawed:
    case SourcePhase::killed:
    case SourcePhase::lost:
      if (settling_) break;
      finish_at_home();
      net::spawn(context_.executor, "source.settle", settle());
      break;
  }
}

// What follows the last record, which may be the last thing that was done.
void SourceMigration::finish_at_home() {
  if (phase() == SourcePhase::killed) return context_.workloads->forget(tree_.workload, tree_.cgroup);
  context_.workloads->stay(tree_.workload);
  if (phase() == SourcePhase::thawed) leave_cgroup(context_, tree_);
}

Clock::time_point SourceMigration::moved() const {
  return std::max({heard_, frozen_since_, told_, feed_ ? feed_->moved() : heard_});
}

// Not armed, and nobody asks for anything: the coordinator is gone, or knows of this migration no more. How long the
// pages take is no sign of that.
void SourceMigration::check_driven() {
  const Limits& limits = context_.options.limits;
  const auto now = Clock::now();
  const SourcePhase at = phase();  // none or frozen
  const bool held = at == SourcePhase::frozen && !runs_on_;
  const bool idle = !held && asking_engine_ == 0 && now - moved() > limits.idle;
  const bool undriven =
      held && now - context_.coordinator_seen > limits.undriven && now - frozen_since_ > limits.undriven;
  const bool forgotten = held && now - moved() > limits.unarmed;
  if (limit_ && now - context_.coordinator_seen > limits.undriven) lift_throttle();
  if (idle || undriven || forgotten) failed(Error(Errc::timed_out, "nobody drives this migration any more"));
}

net::awaitable<void> SourceMigration::recover() {
  const auto self = shared_from_this();
  const Record r = *context_.records.find(key_);
  tree_.workload = r.workload;
  tree_.root = r.pid;
  tree_.start_time = r.start_time;
  tree_.cgroup = r.cgroup;
  const workload::Saved* saved = context_.workloads->find(r.workload);
  tree_.managed = saved && saved->cgroup() == r.cgroup;
  peer_node_ = r.peer_node;
  peer_address_ = r.peer_address;
  boot_ = r.boot_id;
  peer_boot_ = r.peer_boot;
  peer_store_ = r.peer_store;
  secret_ = r.token;
  resolved_ = r.resolved;
  failure_ = Error(Errc::cancelled, "the agent was restarted");
  if (!r.is_final()) log::info("source.recover", {{"migration", key_.migration}, {"phase", name(r.source())}});
  over_ = r.source() == SourcePhase::none || r.settled;
  if (over_) co_return;
  net::spawn(context_.executor, "source.pursue", pursue());
  co_await go_on();
}

void SourceMigration::stop() {
  stopped_ = true;
  lift_throttle();
  if (feed_) feed_->abort();  // its threads must not outlive the loop
  changed_.notify();
}

}  // namespace godwit::service
