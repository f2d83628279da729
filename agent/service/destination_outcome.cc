// How a migration ends at its destination: the copy runs, or it is given up.
#include "agent/service/destination_migration.h"
#include "agent/workload/cgroup_wait.h"
#include "agent/workload/closed_network.h"
#include "agent/workload/process.h"
#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/proc/exit_status.h"

#include <algorithm>

#include <sys/wait.h>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

constexpr auto thaw_limit = 5s;
constexpr auto destroy_limit = 30s;
constexpr auto reap_limit = 500ms;  // by its parent, the init of its namespaces

// Not "did it survive the thaw" but "has it run": what came to its own end with an exit has done so, and its other copy
// must not do it again. Death by a signal, at once, is more likely our fault: then the other copy is worth more.
net::awaitable<bool> has_ended_by_itself(int pidfd) {
  const auto deadline = Clock::now() + reap_limit;
  for (;;) {
    const std::optional<int> status = pidfd == -1 ? std::nullopt : proc::exit_status(pidfd);
    if (status) co_return WIFEXITED(*status);
    if (pidfd == -1 || Clock::now() >= deadline) co_return false;
    co_await net::sleep_for(1ms);
  }
}

// External effects that must not happen twice are claimed between the commit record and the thaw. No kind of state that
// is carried has one: file locks are refused, and so are sockets whose names both nodes share and fifos that somebody
// else has open here.
void claim(const Record&) {}

}  // namespace

net::awaitable<api::Envelope> DestinationMigration::commit(api::Commit request) {
  return steps_.joined("commit", [self = shared_from_this(), request] { return self->do_commit(request); });
}
net::awaitable<api::Envelope> DestinationMigration::discard(api::Discard request) {
  return steps_.joined("discard", [self = shared_from_this(), request] { return self->do_discard(request); });
}
net::awaitable<api::Envelope> DestinationMigration::refuse() {
  return steps_.joined("refuse", [self = shared_from_this()] { return self->do_refuse(); });
}

api::Envelope DestinationMigration::state() {
  api::Envelope answer;
  *answer.mutable_destination_state() = destination_state(context_, key_);
  return answer;
}

DestinationPhase DestinationMigration::phase() {
  const Record* r = context_.records.find(key_);
  return r ? r->destination() : DestinationPhase::none;
}

std::string DestinationMigration::source_node() {
  const Record* r = context_.records.find(key_);
  return r ? r->peer_node : request_.source_node();
}

api::Envelope DestinationMigration::hello(const api::PeerHello& hello, std::weak_ptr<net::Channel> channel) {
  if (hello.commit_hash().size() != 32) fail(Errc::protocol, "a hello without the hash of the commit token");
  if (hello.relay_key().size() != 32) fail(Errc::protocol, "a hello without the key for what is relayed");
  TokenBytes hash, key;
  std::ranges::copy(hello.commit_hash(), hash.begin());
  std::ranges::copy(hello.relay_key(), key.begin());
  if (commit_hash_ && (*commit_hash_ != hash || relay_key_ != key))
    fail(Errc::denied, "this is another attempt's source");
  commit_hash_ = hash;
  relay_key_ = key;
  if (source_boot_.empty()) source_boot_ = hello.boot_id();
  if (source_store_.empty()) source_store_ = hello.store_uuid();
  channel_ = channel;
  heard_ = Clock::now();
  return state();
}

// Every held task is there, on this boot. Of a copy that has been let run, which makes and ends tasks as it likes, the
// root.
bool DestinationMigration::copy_intact() {
  const Record* found = context_.records.find(key_);
  if (!found) return false;
  const Record r = *found;
  const auto copy = living_copy(context_, r);
  if (!copy || !workload::find_process(r.pid, r.start_time)) return false;
  const workload::Saved* saved = context_.workloads->find(r.workload);
  const bool listed = saved && saved->cgroup() == r.cgroup && saved->held_size() > 0;
  return !listed || !copy->told_to_freeze() || workload::all_there(*copy, saved->held());
}

// And nobody has let it run.
bool DestinationMigration::copy_held() {
  const Record* r = context_.records.find(key_);
  if (!r) return false;
  const auto copy = living_copy(context_, *r);
  return copy && copy->frozen() && copy_intact();
}

net::awaitable<api::Envelope> DestinationMigration::do_commit(api::Commit request) {
  const auto hold = co_await turn_.take();
  Laps laps(*resumed_.mutable_steps());
  api::Envelope answer;
  answer.mutable_resumed();
  if (phase() == DestinationPhase::resumed) {  // answered, not acted on
    *answer.mutable_resumed() = resumed_;
    co_return answer;
  }
  if (phase() == DestinationPhase::prepared) {
    if (!commit_hash_ || !is_token_of(request.commit_token(), *commit_hash_))
      fail(Errc::denied, "the commit token is wrong");
    if (!copy_held()) {
      co_await give_up(Error(Errc::target_gone, "the restored copy is not there any more"));
      throw *failure_;
    }
    context_.records.enter(record(), DestinationPhase::committed);
    laps.lap("record committed");
    fault::point("agent.destination.committed");
  }
  if (phase() != DestinationPhase::committed) {
    if (failure_ && failure_->errc() == Errc::target_gone) throw *failure_;
    fail(Errc::refused, "the destination is {}, not prepared", name(phase()));
  }
  co_await resume();
  *answer.mutable_resumed() = resumed_;
  co_return answer;
}

// From `committed` on only this copy may run. `resumed` is the point of no return for the source's, so until that is
// recorded the copy's network is closed: if it were lost now, the other one would run, and nobody must have heard of
// this one's work.
net::awaitable<void> DestinationMigration::resume() {
  const auto self = shared_from_this();
  Laps laps(*resumed_.mutable_steps());
  const Record committed = record();
  auto copy = living_copy(context_, committed);
  const bool ran = !copy && thawed_root_ && co_await has_ended_by_itself(thawed_root_.get());
  if (!copy && !ran) {
    co_await lose("the restored copy is not there any more");
    throw *failure_;
  }
  if (copy && copy->told_to_freeze() && !copy_intact()) {
    co_await lose("a process of the restored copy has died");
    throw *failure_;
  }
  if (!thawed_root_) thawed_root_ = workload::find_process(committed.pid, committed.start_time);
  claim(committed);
  may_have_run_ = true;
  if (copy && !co_await workload::thaws(*copy, thaw_limit)) {
    co_await lose("the restored copy does not thaw");
    throw *failure_;
  }
  laps.lap("thaw");
  fault::point("agent.destination.thawed");
  // A cgroup whose tasks have died is not frozen either.
  if (!ran && !copy_intact() && !co_await has_ended_by_itself(thawed_root_ ? thawed_root_.get() : -1)) {
    co_await lose("the restored copy died as it was thawed");
    throw *failure_;
  }
  context_.records.enter(committed, DestinationPhase::resumed);
  thawed_root_.reset();
  fault::point("agent.destination.resumed");
  if (copy) workload::open_network(*copy);
  context_.workloads->running(committed.workload);
  laps.lap("record resumed");
  log::info("destination.resumed", {{"migration", key_.migration}, {"workload", committed.workload}});
  net::spawn(context_.executor, "destination.release", release());
}

net::awaitable<void> DestinationMigration::release() {
  const auto self = shared_from_this();
  const auto job = std::exchange(job_, nullptr);
  co_await context_.pages->close(key_.migration);
  if (job) co_await job->end(2s);
  ::unlink(context_.journal(key_).c_str());
}

net::awaitable<void> DestinationMigration::destroy_copy() {
  const auto self = shared_from_this();
  if (job_) co_await job_->kill();
  const Record r = record();
  if (r.cgroup.empty()) co_return;  // a tombstone: whatever has this name is nothing that was built here
  auto copy = workload::Cgroup::open(context_.cgroup(r.cgroup));
  if (copy) co_await workload::kill_all(*copy, destroy_limit);
  co_await release();
  context_.workloads->forget(r.workload, r.cgroup);
  if (copy) workload::Cgroup::destroy(copy->path(), 1s);
  workload::Cgroup::destroy(context_.cgroup("jobs/" + to_string(key_)), 5s);
}

// The caller has the turn. The record first: whoever asks from now on hears that this copy will never run.
net::awaitable<void> DestinationMigration::give_up(Error why) {
  const auto self = shared_from_this();
  if (!failure_) failure_ = why;
  log::warn("destination.refused",
            {{"migration", key_.migration}, {"phase", name(phase())}, {"message", why.message()}});
  if (!context_.records.find(key_)) {
    Record tombstone = record();
    tombstone.key = key_;
    tombstone.cgroup.clear();
    context_.records.reserve(tombstone);
  }
  if (phase() == DestinationPhase::prepared) co_await stop_running_copy();
  context_.promised.erase(key_);
  if (allowed(phase(), DestinationPhase::refused)) context_.records.enter(record(), DestinationPhase::refused);
  fault::point("agent.destination.refused");
  tell_source(*failure_);
  changed_.notify();
  // An armed source may be waiting for this answer, frozen: cleaning up can wait.
  net::spawn(context_.executor, "destination.discard", discard_copy());
  co_return;
}

// Of a copy that somebody has thawed: whoever hears of the refusal may let the other one run.
net::awaitable<void> DestinationMigration::stop_running_copy() {
  const auto self = shared_from_this();
  auto copy = living_copy(context_, record());
  if (copy && !copy->frozen()) co_await workload::kill_all(*copy, destroy_limit);
}

net::awaitable<void> DestinationMigration::discard_copy() {
  const auto self = shared_from_this();
  const auto one = co_await discarding_.take();
  co_await destroy_copy();
  // A source that asks a node without the record for a refusal is given one, a tombstone: none has to be kept until it
  // has heard. One that died before it recorded anything would never say so.
  if (phase() == DestinationPhase::refused || !commit_hash_) {
    context_.records.settle(key_);
    over_ = true;
  }
}

net::awaitable<void> DestinationMigration::lose(std::string why) {
  const auto self = shared_from_this();
  failure_ = Error(Errc::target_gone, why);
  thawed_root_.reset();
  log::error("destination.lost", {{"migration", key_.migration}, {"message", why}});
  co_await destroy_copy();
  Record lost = record();
  lost.hold = lost.hold && may_have_run_;
  context_.records.enter(std::move(lost), DestinationPhase::lost);
  tell_source(*failure_);
}

// That it proceeds, or why it does not.
void DestinationMigration::tell_source(const std::optional<Error>& failure) {
  const auto channel = channel_.lock();
  if (!channel || !channel->is_open()) return;
  api::Envelope notice = state();
  if (failure) *notice.mutable_failure() = net::to_failure(*failure);
  net::spawn(context_.executor, "destination.tell", channel->post(std::move(notice)));
}

// The coordinator may end what is being built; of what is prepared only the source may say that it is not needed.
net::awaitable<api::Envelope> DestinationMigration::do_discard(api::Discard request) {
  if (phase() == DestinationPhase::building || phase() == DestinationPhase::none) {
    if (job_) job_->interrupt();
    const auto hold = co_await turn_.take();
    const Error why(Errc::cancelled, request.reason().empty() ? "the migration was cancelled" : request.reason());
    if (phase() == DestinationPhase::building || phase() == DestinationPhase::none) co_await give_up(why);
  } else if (phase() == DestinationPhase::prepared) {
    try {
      const SourcePhase source = co_await ask_source();
      log::info("destination.discard", {{"migration", key_.migration}, {"source", name(source)}});
    } catch (const Error& e) {
      log::warn("destination.discard", {{"migration", key_.migration}, {"message", e.message()}});
    }
  }
  co_return state();
}

// An armed source asks: what has not committed will not.
net::awaitable<api::Envelope> DestinationMigration::do_refuse() {
  if (phase() == DestinationPhase::building && job_) job_->interrupt();
  const auto hold = co_await turn_.take();
  if (phase() == DestinationPhase::none || allowed(phase(), DestinationPhase::refused)) {
    co_await give_up(Error(Errc::cancelled, "the source asked for a refusal"));
  }
  co_return state();
}

}  // namespace godwit::service
