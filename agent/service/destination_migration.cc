#include "agent/service/destination_migration.h"

#include "agent/service/held_fifos.h"
#include "agent/service/preflight.h"
#include "common/base/fault.h"
#include "common/base/log.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace godwit::service {
namespace {

constexpr auto leftovers_limit = std::chrono::seconds(5);

}  // namespace
net::awaitable<api::Envelope> DestinationMigration::prepare(api::Prepare request) {
  heard_ = Clock::now();
  return steps_.once("prepare", [self = shared_from_this(), request] { return self->do_prepare(request); });
}
net::awaitable<api::Envelope> DestinationMigration::finish(api::Finish request) {
  heard_ = Clock::now();
  return steps_.once("finish", [self = shared_from_this(), request] { return self->do_finish(request); });
}

net::awaitable<api::Envelope> DestinationMigration::do_prepare(api::Prepare request) {
  const auto hold = co_await turn_.take();
  if (failure_) throw *failure_;
  if (context_.records.find(key_)) fail(Errc::already_exists, "{} is already recorded", to_string(key_));
  request_ = std::move(request);
  if (!survey_.ParseFromString(request_.survey()) || survey_.tasks().empty()) {
    fail(Errc::invalid_argument, "the survey cannot be read");
  }
  workload::check_workload_name(request_.workload().name());
  api::Envelope answer;
  const std::string& name = request_.workload().name();
  check_admission(context_, key_, name);
  co_await wait_for_leftovers();
  check_admission(context_, key_, name);  // another one may have come meanwhile
  if (const std::uint64_t seen = context_.records.highest_epoch(name); key_.epoch < seen) {
    over_ = true;  // it is asked for again with a higher one
    answer.mutable_prepared()->set_newer_epoch(seen);
    co_return answer;
  }
  const std::vector<std::string> wrong = preflight(context_, request_, survey_);
  if (!wrong.empty()) fail(Errc::refused, "{}", fmt::join(wrong, "; "));
  hold_if_lost_ = request_.options().if_lost() == api::IF_LOST_UNSAID
                      ? writes_shared_files(context_, request_, survey_)
                      : request_.options().if_lost() == api::IF_LOST_HOLD;
  context_.records.reserve(record());
  net::spawn(context_.executor, "destination.pursue", pursue());
  std::exception_ptr problem;
  try {
    context_.records.enter(record(), DestinationPhase::building);
    context_.promised[key_] = {.workload = name, .bytes = needed_memory(context_, request_, survey_)};
    fault::point("agent.destination.building");
    co_await build();
    answer.mutable_prepared()->set_pages_address(co_await context_.pages->address());
  } catch (...) {
    problem = std::current_exception();
  }
  if (problem) {
    co_await give_up(net::to_error(problem));
    throw *failure_;
  }
  if (!network_stays_open_.empty())
    answer.mutable_prepared()->add_notices(network_notice(context_, network_stays_open_));
  answer.mutable_prepared()->set_peer_address(context_.peer_address);
  answer.mutable_prepared()->set_token(std::string(text_of(session_token_)));
  co_return answer;
}

// A copy that was given up a moment ago is still being cleared away.
net::awaitable<void> DestinationMigration::wait_for_leftovers() {
  const auto self = shared_from_this();
  const auto deadline = Clock::now() + leftovers_limit;
  const auto there = [this] {
    const workload::Saved* saved = context_.workloads->find(request_.workload().name());
    return saved && (saved->info().state() == "building" || saved->info().state() == "prepared");
  };
  while (there() && Clock::now() < deadline) co_await net::sleep_for(std::chrono::milliseconds(10));
}

// Everything that was sent for it must have been passed on first: the engine takes commands in order.
net::awaitable<void> DestinationMigration::wait_complete(std::uint64_t sequence) {
  const auto self = shared_from_this();
  const auto complete = [this, sequence] {
    if (manifest_sequence_ < sequence) return false;
    return std::ranges::all_of(streams_, [](const auto& s) { return s.second.stored >= s.second.needed; });
  };
  const auto begin = Clock::now();
  while (!complete() && !failure_) {
    const auto deadline = std::max(begin, heard_) + context_.options.limits.stored;
    if (Clock::now() >= deadline) {
      fail(Errc::timed_out, "frames up to {} were announced, {} are needed", manifest_sequence_, sequence);
    }
    co_await changed_.wait_until(deadline);
  }
  if (failure_) throw *failure_;
}

net::awaitable<api::Envelope> DestinationMigration::do_finish(api::Finish request) {
  const auto hold = co_await turn_.take();
  if (failure_) throw *failure_;
  if (phase() == DestinationPhase::building && !job_) fail(Errc::internal, "there is no restore job");
  if (phase() != DestinationPhase::building && phase() != DestinationPhase::prepared) {
    fail(Errc::refused, "the destination is {}, not building", name(phase()));
  }
  api::Envelope answer;
  api::Finished& finished = *answer.mutable_finished();
  Laps laps(*finished.mutable_steps());
  const bool built_now = phase() == DestinationPhase::building;
  if (built_now) {
    std::exception_ptr problem;
    try {
      co_await build_last(request.sequence(), laps);
    } catch (...) {
      problem = std::current_exception();
    }
    if (problem) {
      co_await give_up(net::to_error(problem));
      throw *failure_;
    }
  }
  *finished.mutable_workload() = context_.workloads->info(record().workload);
  finished.set_boot_id(context_.facts.boot_id);
  if (built_now) laps.lap("record prepared");
  heard_ = Clock::now();
  co_return answer;
}

net::awaitable<void> DestinationMigration::build_last(std::uint64_t sequence, Laps& laps) {
  const auto self = shared_from_this();
  co_await wait_complete(sequence);
  laps.lap("arrive");
  if (names_fifos(survey_)) {  // not before everything is there: they are filled next
    if (const auto held = check_fifos(survey_); !held.empty()) fail(Errc::busy, "{}", fmt::join(held, "; "));
    laps.lap("look for fifos");
  }
  engine::Command command;
  command.mutable_finish()->set_sequence(sequence);
  const auto job = job_;
  jobs::EngineJob::Moved moved = [this] { return absorbed_; };
  const engine::Event event =
      co_await job->ask(std::move(command), {}, context_.options.limits.finish, std::move(moved));
  if (!event.has_prepared()) fail(Errc::protocol, "the engine does not answer a finish with what it prepared");
  laps.lap(event.prepared().steps(), "hear of it");
  workload::HeldTasks held = check_held(event.prepared());
  // Who they are is on file before the record that says that they are there: a Commit looks for each of them.
  context_.workloads->prepared(request_.workload().name(), root_, start_time_, std::move(held));
  fault::point("agent.destination.finished");
  context_.records.enter(record(), DestinationPhase::prepared);
  context_.promised.erase(key_);
  fault::point("agent.destination.prepared");
}

// Held means: without any engine, in the copy's cgroup, frozen, and every task that was announced is there.
workload::HeldTasks DestinationMigration::check_held(const engine::Prepared& prepared) {
  const auto copy = workload::Cgroup::open(context_.cgroup(to_string(key_)));
  if (!copy || !copy->frozen()) fail(Errc::internal, "the restored tasks are not held by their cgroup");
  workload::HeldTasks held = workload::held_tasks(*copy);
  std::vector<pid_t> there, said;
  for (const workload::HeldTask& task : held) there.push_back(task.pid());
  for (const engine::Task& task : prepared.tasks()) said.push_back(task.pid());
  std::ranges::sort(said);
  if (there != said || said.empty()) {
    fail(Errc::internal, "the copy holds the processes {}, the engine restored {}", fmt::join(there, ", "),
         fmt::join(said, ", "));
  }
  root_ = prepared.tasks(0).pid();
  start_time_ = std::ranges::find(held, root_, &workload::HeldTask::pid)->start_time();
  return held;
}

Record DestinationMigration::record() const {
  const Record* known = context_.records.find(key_);
  if (known && (known->cgroup.empty() || request_.id().migration().empty())) return *known;
  Record r;
  r.key = key_;
  r.workload = request_.workload().name();
  r.cgroup = to_string(key_);
  r.peer_node = request_.source_node();
  r.boot_id = context_.facts.boot_id;
  if (commit_hash_) r.token = *commit_hash_;
  r.relay_key = relay_key_;
  r.pid = root_;
  r.start_time = start_time_;
  r.hold = hold_if_lost_;
  r.resolved = resolved_;
  r.peer_boot = source_boot_;
  r.peer_store = source_store_;
  return r;
}

}  // namespace godwit::service
