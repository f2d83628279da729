// How a migration ends at its source: armed and decided by the destination, or let go on the source's own word.
#include "agent/service/laps.h"
#include "agent/service/source_migration.h"
#include "agent/workload/cgroup_wait.h"
#include "common/base/fault.h"
#include "common/base/log.h"

#include <algorithm>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

constexpr auto kill_limit = 60s;  // of a copy: freeing its memory takes most of it
constexpr auto most_pause = 10s;  // between two questions to a peer that does not answer

struct WhileHere {
  explicit WhileHere(bool& flag) : flag_(flag) { flag_ = true; }
  ~WhileHere() { flag_ = false; }
  WhileHere(const WhileHere&) = delete;
  WhileHere& operator=(const WhileHere&) = delete;

 private:
  bool& flag_;
};

}  // namespace

net::awaitable<api::Envelope> SourceMigration::arm(api::Arm request) {
  heard_ = Clock::now();
  return steps_.once("arm", [self = shared_from_this(), request] { return self->do_arm(request); });
}
net::awaitable<api::Envelope> SourceMigration::abort(api::Abort request) {
  return steps_.joined("abort", [self = shared_from_this(), request] { return self->do_abort(request); });
}
net::awaitable<api::Envelope> SourceMigration::kill() {
  return steps_.joined("kill", [self = shared_from_this()] { return self->do_kill(); });
}

api::Envelope SourceMigration::state() {
  api::Envelope answer;
  *answer.mutable_source_state() = source_state(context_, key_, frozen_ns_);
  return answer;
}

SourcePhase SourceMigration::phase() const {
  const Record* r = context_.records.find(key_);
  return r ? r->source() : SourcePhase::none;
}

// The end of the source's own right to thaw. The token that goes with the answer is what a Commit needs.
net::awaitable<api::Envelope> SourceMigration::do_arm(api::Arm request) {
  const auto hold = co_await turn_.take();
  api::Envelope answer;
  Laps laps(*answer.mutable_armed()->mutable_steps());
  if (phase() == SourcePhase::frozen) {
    if (failure_) throw *failure_;
    if (runs_on_) fail(Errc::refused, "the workload runs on: its last difference was too large");
    if (request.destination_node() != peer_node_) {
      fail(Errc::refused, "this migration goes to '{}', not to '{}'", peer_node_, request.destination_node());
    }
    if (request.destination_boot() != peer_boot_) fail(Errc::refused, "node '{}' has been restarted", peer_node_);
    if (const auto copy = living_copy(context_, record()); !copy || !copy->frozen()) {
      const Error why(Errc::target_gone, copy ? "somebody has thawed the copy" : "the frozen copy has died");
      failed(why);
      throw why;
    }
    context_.records.enter(record(), SourcePhase::armed);
    laps.lap("record armed");
    fault::point("agent.source.armed");
    if (!deciding_) net::spawn(context_.executor, "source.decide", decide());
  } else if (phase() != SourcePhase::armed) {
    if (failure_) throw *failure_;
    fail(Errc::refused, "the source is {}, not frozen", name(phase()));
  }
  answer.mutable_armed()->set_commit_token(std::string(text_of(commit_token())));
  co_return answer;
}

net::awaitable<api::Envelope> SourceMigration::do_abort(api::Abort request) {
  if (phase() == SourcePhase::armed) {
    std::exception_ptr problem;
    try {
      const DestinationPhase there = co_await ask_destination(true);
      log::info("source.abort_armed", {{"migration", key_.migration}, {"destination", name(there)}});
    } catch (...) {
      problem = std::current_exception();
    }
    if (problem) log::warn("source.abort_armed", {{"message", net::to_error(problem).message()}});
  } else {
    co_await abort_unarmed(request.reason().empty() ? "the migration was cancelled" : request.reason());
  }
  co_return state();
}

net::awaitable<void> SourceMigration::abort_unarmed(std::string reason) {
  const auto self = shared_from_this();
  interrupt(Error(Errc::cancelled, reason));
  const auto hold = co_await turn_.take();
  switch (phase()) {
    case SourcePhase::none: {
      // A tombstone, also for an epoch never seen: a late step of it finds that it is over.
      if (!context_.records.find(key_)) context_.records.reserve(record());
      co_await drop_job();
      leave_cgroup(context_, tree_);
      context_.records.enter(record(), SourcePhase::thawed);
      log::info("source.cancelled", {{"migration", key_.migration}, {"reason", reason}});
      net::spawn(context_.executor, "source.settle", settle());
      break;
    }
    case SourcePhase::frozen:
    case SourcePhase::aborted: co_await let_go(); break;
    case SourcePhase::armed:
    case SourcePhase::thawed:
    case SourcePhase::killing:
    case SourcePhase::killed:
    case SourcePhase::lost: break;
  }
}

// Before it is let go, a held copy that is not there any more: whatever the destination has may go on.
bool SourceMigration::enter_lost() {
  if (!allowed(phase(), SourcePhase::lost) || living_copy(context_, record())) return false;
  context_.records.enter(record(), SourcePhase::lost);
  log::warn("source.lost", {{"migration", key_.migration}, {"workload", tree_.workload}});
  context_.workloads->stay(tree_.workload);
  net::spawn(context_.executor, "source.settle", settle());
  return true;
}

// The caller has the turn.
net::awaitable<void> SourceMigration::let_go() {
  const auto self = shared_from_this();
  lift_throttle();
  if (enter_lost()) {
    if (feed_) feed_->abort();  // there is nobody to say goodbye for
    if (job_) co_await job_->kill();
    job_.reset();
    co_return;
  }
  if (phase() != SourcePhase::aborted) context_.records.enter(record(), SourcePhase::aborted);
  fault::point("agent.source.aborted");
  const Limits& limits = context_.options.limits;
  bool thawed = false;
  if (job_ && job_->alive()) {
    engine::Command command;
    command.mutable_thaw();
    try {
      co_await job_->ask(std::move(command), {}, limits.undo);
      thawed = true;
    } catch (const Error& e) {
      log::warn("source.thaw", {{"migration", key_.migration}, {"message", e.message()}});
    }
  }
  if (thawed) {
    co_await drop_job();
  } else {
    if (job_) co_await job_->kill();
    job_.reset();
    co_await release_copy(context_, record());
  }
  // The engine has thawed what it froze; the word of the cgroup counts. `thawed` says so.
  if (auto copy = living_copy(context_, record()); copy && !co_await workload::thaws(*copy, limits.undo))
    fail(Errc::timed_out, "the copy in {} does not thaw", copy->path());
  context_.records.enter(record(), SourcePhase::thawed);
  context_.workloads->stay(tree_.workload);
  leave_cgroup(context_, tree_);
  log::info("source.thawed", {{"migration", key_.migration},
                              {"workload", tree_.workload},
                              {"reason", failure_ ? failure_->message() : "the destination gave up"}});
  if (feed_) feed_->abort();
  net::spawn(context_.executor, "source.settle", settle());
}

net::awaitable<void> SourceMigration::drop_job() {
  const auto self = shared_from_this();
  lift_throttle();
  if (feed_) feed_->abort();
  if (!job_) co_return;
  const auto job = std::move(job_);
  const bool well = co_await job->end(context_.options.limits.undo);
  if (!well && touched_) co_await release_copy(context_, record());
}

net::awaitable<api::Envelope> SourceMigration::do_kill() {
  const std::uint64_t received = monotonic_ns();
  if (phase() == SourcePhase::armed) {
    // The coordinator's word is no proof: the destination's record is.
    const DestinationPhase there = co_await ask_destination(false);
    if (there == DestinationPhase::resumed && frozen_at_ns_ > 0) frozen_ns_ = received - frozen_at_ns_;
    if (phase() == SourcePhase::armed) fail(Errc::busy, "the destination is {}, not resumed", name(there));
  }
  co_return state();
}

// Asks, and acts on what is said. "refuse" makes a destination that has not committed give up.
net::awaitable<DestinationPhase> SourceMigration::ask_destination(bool refuse) {
  const auto self = shared_from_this();
  if (refuse && !living_copy(context_, record())) fail(Errc::target_gone, "the copy that was held has died");
  api::Envelope request;
  fill(refuse ? request.mutable_refuse()->mutable_id() : request.mutable_query()->mutable_id(), key_);
  const api::Envelope reply = co_await ask_peer(std::move(request));
  if (!reply.has_destination_state()) fail(Errc::protocol, "node '{}' does not answer with its state", peer_node_);
  const api::DestinationState& there = reply.destination_state();
  if (!peer_store_.empty() && there.store_uuid() != peer_store_) {
    throw Error(Errc::refused,
                fmt::format("the records of node '{}' were replaced: its answers prove nothing", peer_node_),
                "reboot that node, which ends whatever runs there, then use `godwit resolve`");
  }
  const auto said = static_cast<DestinationPhase>(there.phase());
  if (said == DestinationPhase::resumed) co_await kill_copy();
  if (said == DestinationPhase::refused || said == DestinationPhase::lost) {
    const auto hold = co_await turn_.take();
    if (phase() == SourcePhase::armed && there.hold())
      hold_after_loss();
    else if (phase() == SourcePhase::armed)
      co_await let_go();
  }
  co_return said;
}

net::awaitable<void> SourceMigration::kill_copy() {
  const auto self = shared_from_this();
  const auto hold = co_await turn_.take();
  if (phase() == SourcePhase::armed) {
    if (frozen_at_ns_ > 0 && frozen_ns_ == 0) frozen_ns_ = monotonic_ns() - frozen_at_ns_;
    context_.records.enter(record(), SourcePhase::killing);
  }
  if (phase() != SourcePhase::killing) co_return;
  fault::point("agent.source.killing");
  context_.workloads->depart(tree_.workload);
  if (auto copy = living_copy(context_, record())) {
    co_await workload::kill_all(*copy, kill_limit);
  }
  lift_throttle();
  context_.records.enter(record(), SourcePhase::killed);
  log::info("source.killed", {{"migration", key_.migration}, {"workload", tree_.workload}, {"frozen_ns", frozen_ns_}});
  context_.workloads->forget(tree_.workload, tree_.cgroup);
  net::spawn(context_.executor, "source.settle", settle());
}

net::awaitable<void> SourceMigration::decide() {
  const auto self = shared_from_this();
  const WhileHere deciding(deciding_);
  const auto armed = Clock::now();
  const Limits& limits = context_.options.limits;
  Clock::duration pause = limits.ask_after;
  while (!stopped_ && phase() == SourcePhase::armed) {
    co_await net::sleep_for(pause);
    if (stopped_ || phase() != SourcePhase::armed) break;
    const bool refuse = Clock::now() - armed >= limits.refuse_after;
    std::exception_ptr problem;
    try {
      if (living_copy(context_, record())) co_await ask_destination(refuse);
      pause = held_ ? most_pause : limits.ask_interval;
    } catch (...) {
      problem = std::current_exception();
    }
    if (!problem) continue;
    log::warn("source.undecided", {{"migration", key_.migration}, {"message", net::to_error(problem).message()}});
    pause = std::min<Clock::duration>(std::max(2 * pause, limits.ask_interval), most_pause);
  }
}

bool SourceMigration::record_settled() {
  const Record* r = context_.records.find(key_);
  return r && r->settled;
}

net::awaitable<void> SourceMigration::settle() {
  const auto self = shared_from_this();
  if (settling_) co_return;
  const WhileHere settling(settling_);
  if (!releasing_ && !released_) {
    releasing_ = true;
    net::spawn(context_.executor, "source.release", release());  // the destination may be silent for ever
  }
  Clock::duration pause = context_.options.limits.ask_interval;
  while (!stopped_ && !peer_address_.empty() && !record_settled()) {
    api::Envelope request;
    fill(request.mutable_settled()->mutable_id(), key_);
    request.mutable_settled()->set_phase(static_cast<api::SourcePhase>(phase()));
    bool heard = false;
    try {
      const api::Envelope answer = co_await ask_peer(std::move(request));
      if (!answer.has_destination_state()) fail(Errc::protocol, "node '{}' does not answer with its state", peer_node_);
      heard = !is_alarming(answer.destination_state());
    } catch (const Error& e) {
      log::debug("source.settle", {{"migration", key_.migration}, {"message", e.message()}});
    }
    if (heard) break;
    co_await net::sleep_for(pause);
    pause = std::min<Clock::duration>(2 * pause, most_pause);
  }
  // Nobody looks after a settled record any more: nothing may be left behind it.
  while (releasing_ && !stopped_) co_await net::sleep_for(10ms);
  if (stopped_ || !released_) co_return;  // else it is released again
  context_.records.settle(key_);
  if (peer_) peer_->close();
  over_ = true;
}

// What nobody needs any more who has only to be told how it ended.
net::awaitable<void> SourceMigration::release() {
  const auto self = shared_from_this();
  const WhileHere releasing(releasing_);
  lift_throttle();
  if (feed_) co_await feed_->finish();
  if (job_) co_await job_->end(2s);
  job_.reset();
  feed_.reset();
  ::unlink(context_.journal(key_).c_str());
  // Of a copy that was let go, in case it could not leave before; of one that has gone there is the note only.
  if (phase() == SourcePhase::thawed || !living_copy(context_, record())) leave_cgroup(context_, tree_);
  if (const auto cgroup = workload::Cgroup::open(context_.cgroup(tree_.cgroup)); cgroup && !tree_.cgroup.empty()) {
    cgroup->remove();  // of a copy that was killed; one that is in use stays
  }
  released_ = true;
}

}  // namespace godwit::service
