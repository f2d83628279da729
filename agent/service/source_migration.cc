#include "agent/service/source_migration.h"

#include "agent/service/source_namespaces.h"
#include "common/base/fault.h"
#include "common/base/log.h"

#include <filesystem>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

constexpr auto explain_limit = 300ms;
constexpr std::uint32_t most_probe_ms = 10'000;
constexpr std::uint32_t drain_limit_ms = 500;        // many times what a spool of the usual size takes
constexpr std::uint64_t most_freeze_ms = 3'600'000;  // a number from outside must not overflow a clock

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

}  // namespace

net::awaitable<api::Envelope> SourceMigration::survey(api::Survey request) {
  heard_ = Clock::now();
  return steps_.once("survey", [self = shared_from_this(), request] { return self->do_survey(request); });
}
net::awaitable<api::Envelope> SourceMigration::connect(api::Connect request) {
  heard_ = Clock::now();
  return steps_.once("connect", [self = shared_from_this(), request] { return self->do_connect(request); });
}
net::awaitable<api::Envelope> SourceMigration::round(api::Round request) {
  heard_ = Clock::now();
  return steps_.once(fmt::format("round {}", request.number()),
                     [self = shared_from_this(), request] { return self->do_round(request); });
}
net::awaitable<api::Envelope> SourceMigration::freeze(api::Freeze request) {
  heard_ = Clock::now();
  // One that was over its budget may be asked for again, with another one.
  return steps_.once(fmt::format("freeze {} {}", request.number(), request.most_bytes()),
                     [self = shared_from_this(), request] { return self->do_freeze(request); });
}

// A job of its own that reads and ends: most surveys are refusals, dry runs or questions.
net::awaitable<api::Envelope> SourceMigration::do_survey(api::Survey request) {
  if (failure_) throw *failure_;
  request_ = request;
  tree_ = find_tree(context_, request, key_);
  if (const std::uint64_t seen = context_.records.highest_epoch(tree_.workload);
      key_.epoch < seen && !request.dry_run()) {
    over_ = true;  // it is asked for again with a higher one
    api::Envelope answer;
    answer.mutable_surveyed()->set_newer_epoch(seen);
    co_return answer;
  }
  if (!request.dry_run()) check_unprobed();
  const auto job = start_source_job(context_, key_, 0, {});
  std::exception_ptr problem;
  engine::Surveyed surveyed;
  engine::Probed probed;
  std::optional<Probed::Hold> probing;  // until whatever was borrowed is back
  try {
    surveyed = co_await ask_survey(job);
    if (request.dry_run() && request.probe_ms() > 0 && surveyed.refusals().empty()) {
      check_unprobed();
      check_unheld(context_, tree_, key_);
      check_unmoved();
      probing.emplace(context_.probed, tree_.root);
      probed = co_await probe(job, request.probe_ms());
    }
  } catch (...) {
    problem = std::current_exception();
  }
  const bool well = co_await job->end(2s);
  if (!well && touched_) {
    Record probed_only = record();
    probed_only.cgroup.clear();  // a probe freezes nothing, so nothing is thawed: another one's freeze stays
    co_await release_copy(context_, std::move(probed_only));
  }
  if (problem) std::rethrow_exception(problem);
  surveyed.mutable_cpu_flags()->Assign(context_.facts.cpu_flags.begin(), context_.facts.cpu_flags.end());
  api::Envelope answer;
  *answer.mutable_surveyed() = describe(tree_, surveyed);
  for (const engine::DirtyPoint& point : probed.points()) {
    api::DirtyPoint& dirty = *answer.mutable_surveyed()->add_dirty();
    dirty.set_seconds(static_cast<double>(point.nanoseconds()) / 1e9);
    dirty.set_bytes(point.bytes());
  }
  co_return answer;
}

void SourceMigration::check_unprobed() const {
  if (context_.probed.contains(tree_.root)) fail(Errc::busy, "'{}' is measured by a dry run", tree_.workload);
}

void SourceMigration::pass_over() { over_ = over_ || !context_.records.find(key_); }

void SourceMigration::check_unmoved() const {
  for (const Record& r : context_.records.all()) {
    const bool connected = r.key.side == Side::source && r.source() == SourcePhase::none && r.key != key_;
    const bool same = r.workload == tree_.workload || (r.pid == tree_.root && r.start_time == tree_.start_time);
    if (connected && same) fail(Errc::busy, "the migration {} is moving it", r.key.migration);
  }
}

net::awaitable<engine::Probed> SourceMigration::probe(std::shared_ptr<jobs::EngineJob> job, std::uint32_t length_ms) {
  engine::Command command;
  command.mutable_probe()->set_milliseconds(std::min(length_ms, most_probe_ms));
  touched_ = true;
  const auto limit = context_.options.limits.survey + std::chrono::milliseconds(command.probe().milliseconds());
  engine::Event event = co_await job->ask(std::move(command), {}, limit);
  if (!event.has_probed()) fail(Errc::protocol, "the engine does not answer a probe with one");
  co_return std::move(*event.mutable_probed());
}

net::awaitable<engine::Surveyed> SourceMigration::ask_survey(std::shared_ptr<jobs::EngineJob> job) {
  engine::Command command;
  command.mutable_survey()->set_pid(tree_.root);
  *command.mutable_survey()->mutable_options() = engine_options(request_.options());
  engine::Event event = co_await job->ask(std::move(command), {}, context_.options.limits.survey);
  if (!event.has_surveyed()) fail(Errc::protocol, "the engine does not answer a survey with one");
  const workload::Saved* saved = tree_.managed ? context_.workloads->find(tree_.workload) : nullptr;
  refuse_namespaces(tree_.root, saved ? saved->init_pid() : 0, *event.mutable_surveyed());
  co_return std::move(*event.mutable_surveyed());
}

// The job that stays, with the seed that the destination has, too. It surveys again: time has passed.
net::awaitable<api::Envelope> SourceMigration::do_connect(api::Connect request) {
  if (failure_) throw *failure_;
  if (tree_.root == 0) fail(Errc::invalid_argument, "there was no survey before");
  if (over_ || key_.epoch < context_.records.highest_epoch(tree_.workload))
    fail(Errc::refused, "a newer epoch has been seen");
  peer_node_ = request.destination_node();
  peer_address_ = request.peer_address();
  secret_ = random_token();
  check_unprobed();
  check_unmoved();
  context_.records.reserve(record());
  net::spawn(context_.executor, "source.pursue", pursue());
  job_ = start_source_job(context_, key_, request.seed(), job_handlers());
  const engine::Surveyed surveyed = co_await ask_survey(job_);
  if (failure_) throw *failure_;
  check_unheld(context_, tree_, key_);  // again: another migration may have frozen it since the survey
  if (surveyed.refusals_size() > 0) {
    fail(Errc::refused, "cannot be moved any more: {}", describe(tree_, surveyed).refusals(0));
  }
  check_apart(context_, tree_, surveyed, key_);
  enter_cgroup(context_, tree_, surveyed);
  const api::DestinationState there = co_await peer()->connect();
  if (failure_) throw *failure_;
  if (there.phase() != api::DESTINATION_BUILDING) fail(Errc::refused, "node '{}' is not prepared", peer_node_);
  peer_boot_ = there.boot_id();
  peer_store_ = there.store_uuid();
  feed_ = std::make_shared<PageFeed>(context_, job_, peer_, key_, [weak = weak_from_this()](Error e) {
    const auto self = weak.lock();
    if (self) net::spawn(self->context_.executor, "source.feed", self->feed_failed(std::move(e)));
  });
  const auto feed = feed_;
  co_await feed->connect(context_, request, request_.options());
  if (failure_) feed->abort();
  if (failure_) throw *failure_;
  api::Envelope answer;
  answer.mutable_ok();
  co_return answer;
}

net::awaitable<engine::Event> SourceMigration::ask_engine(engine::Command command, Clock::duration limit) {
  if (failure_) throw *failure_;
  if (!job_ || !feed_) fail(Errc::invalid_argument, "the migration is not connected");
  const auto job = job_;
  touched_ = true;
  asking_engine_++;
  jobs::EngineJob::Moved moved = [feed = feed_] { return feed->moved(); };
  std::exception_ptr problem;
  engine::Event event;
  try {
    event = co_await job->ask(std::move(command), {}, limit, std::move(moved));
  } catch (...) {
    problem = std::current_exception();
  }
  asking_engine_--;
  changed_.notify();
  if (problem && failure_) throw *failure_;  // the job was ended for it
  if (problem) std::rethrow_exception(problem);
  co_return event;
}

net::awaitable<api::Envelope> SourceMigration::do_round(api::Round request) {
  const auto begin = Clock::now();
  if (failure_) throw *failure_;
  if (!feed_) fail(Errc::invalid_argument, "the migration is not connected");
  if (phase() == SourcePhase::frozen && !runs_on_) fail(Errc::refused, "a frozen copy writes nothing more");
  check_unheld(context_, tree_, key_);
  mark_cpu_time();
  net::spawn(context_.executor, "source.progress", report_progress(feed_, request.number()));
  engine::Command command;
  command.mutable_round()->set_number(request.number());
  const engine::Event event = co_await ask_engine(std::move(command), context_.options.limits.round);
  const engine::RoundDone& done = event.round_done();
  co_await wait_stored(done.last_sequence(), context_.options.limits.round);
  api::Envelope answer;
  *answer.mutable_round_done() = describe(done, seconds_since(begin));
  heard_ = Clock::now();
  co_return answer;
}

net::awaitable<void> SourceMigration::wait_stored(std::uint64_t sequence, Clock::duration limit,
                                                  Clock::time_point until) {
  const auto feed = feed_;
  std::exception_ptr problem;
  try {
    co_await feed->wait_stored(sequence, limit, until);
  } catch (...) {
    problem = std::current_exception();
  }
  if (!problem) co_return;
  if (Clock::now() >= until) std::rethrow_exception(problem);  // the copy stands still
  const auto deadline = Clock::now() + 2 * explain_limit;
  while (!failure_ && Clock::now() < deadline) co_await changed_.wait_until(deadline);
  if (failure_) throw *failure_;
  std::rethrow_exception(problem);
}

net::awaitable<void> SourceMigration::report_progress(std::weak_ptr<PageFeed> feed, std::uint32_t round) {
  const auto self = shared_from_this();
  std::uint64_t told = 0;
  do {
    co_await net::sleep_for(250ms);
    const auto f = feed.lock();
    if (!f || failure_) co_return;
    if (f->sent_bytes() == told) continue;
    told = f->sent_bytes();
    api::Envelope notice;
    api::Progress& p = *notice.mutable_progress();
    fill(p.mutable_id(), key_);
    p.set_round(round);
    p.set_bytes(told);
    p.set_phase("precopy");
    context_.tell_coordinator(std::move(notice));
  } while (asking_engine_ > 0);
}

// What is stored at the destination and not yet in the copy would be put there while the workload stands still. What is
// written meanwhile the engine sends ahead of the stop (Dump::catch_up).
net::awaitable<void> SourceMigration::drain_destination() {
  const auto self = shared_from_this();
  api::Envelope request;
  fill(request.mutable_drain()->mutable_id(), key_);
  request.mutable_drain()->set_limit_ms(drain_limit_ms);
  try {
    const auto link = peer();
    co_await link->ask(std::move(request));
  } catch (const Error& e) {  // the freeze finds out what it means
    log::warn("source.drain", {{"migration", key_.migration}, {"message", e.message()}});
  }
}

net::awaitable<api::Envelope> SourceMigration::do_freeze(api::Freeze request) {
  const auto hold = co_await turn_.take();
  if (failure_) throw *failure_;
  if (!feed_) fail(Errc::invalid_argument, "the migration is not connected");
  check_freezable();
  co_await drain_destination();
  if (failure_) throw *failure_;
  if (!runs_on_) {
    if (phase() == SourcePhase::frozen) fail(Errc::refused, "the copy has been frozen already");
    try {
      context_.records.enter(record(), SourcePhase::frozen);
    } catch (const Error& e) {
      failed(e);
      throw;
    }
  }
  runs_on_ = false;
  context_.workloads->depart(tree_.workload);
  frozen_since_ = Clock::now();
  std::exception_ptr problem;
  engine::Frozen frozen;
  try {
    fault::point("agent.source.frozen");
    frozen = co_await freeze_and_send(std::move(request));
  } catch (...) {
    problem = std::current_exception();
  }
  if (problem) {
    const Error why = net::to_error(problem);
    log::warn("source.freeze_failed", {{"migration", key_.migration}, {"message", why.message()}});
    if (!failure_) failure_ = why;
    co_await let_go();
    std::rethrow_exception(problem);
  }
  frozen_at_ns_ = frozen.frozen_at_ns();
  api::Envelope answer;
  api::Frozen& f = *answer.mutable_frozen();
  if (frozen.has_caught_up())
    *f.mutable_caught_up() = describe(frozen.caught_up(), static_cast<double>(frozen.caught_up().nanoseconds()) / 1e9);
  if (frozen.over_bytes() > 0) {
    run_on();
    f.mutable_over_budget()->set_bytes(frozen.over_bytes());
    f.mutable_over_budget()->set_stopped_ns(frozen.stopped_ns());
    co_return answer;
  }
  *f.mutable_round() = describe(frozen.round(), static_cast<double>(monotonic_ns() - frozen_at_ns_) / 1e9);
  for (const engine::Step& s : frozen.steps()) {
    f.add_steps()->set_name(s.name());
    f.mutable_steps()->rbegin()->set_nanoseconds(s.nanoseconds());
  }
  heard_ = Clock::now();
  co_return answer;
}

// The engine has let it go before anything but pages was sent: what the record announces is still to be done, and the
// migration goes on with rounds.
void SourceMigration::run_on() {
  runs_on_ = true;
  frozen_at_ns_ = 0;
  heard_ = Clock::now();
  context_.workloads->stay(tree_.workload);
  try {
    if (limit_) limit_cpu_time();  // the stop has lifted it
  } catch (const Error& e) {
    failed(e);
    throw;
  }
}

net::awaitable<engine::Frozen> SourceMigration::freeze_and_send(api::Freeze request) {
  engine::Command command;
  command.mutable_freeze()->set_number(request.number());
  command.mutable_freeze()->set_cgroup(context_.cgroup(tree_.cgroup));
  command.mutable_freeze()->set_child_patience_ms(request.child_patience_ms());
  command.mutable_freeze()->set_most_bytes(request.most_bytes());
  const auto asked = std::chrono::milliseconds(std::min(request.limit_ms(), most_freeze_ms));
  const bool limited = asked.count() > 0 && request.most_bytes() > 0 && !request_.options().force();
  if (limited)
    command.mutable_freeze()->set_longest_stop_ns(static_cast<std::uint64_t>(std::chrono::nanoseconds(asked).count()));
  const auto limit = std::max<Clock::duration>(context_.options.limits.freeze, asked) +
                     std::chrono::milliseconds(request.child_patience_ms());
  engine::Event event = co_await ask_engine(std::move(command), limit);
  if (!event.has_frozen()) fail(Errc::protocol, "the engine does not answer a freeze with one");
  if (event.frozen().over_bytes() > 0) co_return std::move(*event.mutable_frozen());
  // The state is on its way, so it does not run on any more: too late is too late.
  const auto stopped = std::chrono::nanoseconds(monotonic_ns() - event.frozen().frozen_at_ns());
  co_await wait_stored(event.frozen().round().last_sequence(), context_.options.limits.stored,
                       limited ? Clock::now() - stopped + asked : Clock::time_point::max());
  const auto copy = living_copy(context_, record());
  if (!copy || !copy->frozen()) fail(Errc::internal, "the engine has not left the copy frozen");
  std::uint64_t accounted = event.frozen().frozen_at_ns();
  for (const engine::Step& s : event.frozen().steps()) accounted += s.nanoseconds();
  engine::Step& sent = *event.mutable_frozen()->add_steps();
  sent.set_name("send");
  sent.set_nanoseconds(monotonic_ns() - accounted);
  co_return std::move(*event.mutable_frozen());
}

// Rule 1: every other epoch of this copy is over, none newer was seen, and what made the copy has `resumed`.
void SourceMigration::check_freezable() const {
  if (key_.epoch < context_.records.highest_epoch(tree_.workload)) fail(Errc::refused, "a newer epoch has been seen");
  check_unheld(context_, tree_, key_);
  for (const Record& r : context_.records.all()) {
    if (r.key == key_ || r.cgroup != tree_.cgroup) continue;
    const bool over = r.key.side == Side::source ? r.source() == SourcePhase::none || r.source() == SourcePhase::thawed
                                                 : r.destination() == DestinationPhase::resumed;
    if (!over) fail(Errc::busy, "the migration {} of this copy is {}", r.key.migration, phase_name(r));
  }
}

Record SourceMigration::record() const {
  Record r;
  r.key = key_;
  r.workload = tree_.workload;
  r.cgroup = tree_.cgroup;
  r.peer_node = peer_node_;
  r.peer_address = peer_address_;
  r.boot_id = boot_.empty() ? context_.facts.boot_id : boot_;
  r.peer_boot = peer_boot_;
  r.peer_store = peer_store_;
  r.token = secret_;
  r.resolved = resolved_;
  r.pid = tree_.root;
  r.start_time = tree_.start_time;
  return r;
}

// A stream that breaks is often the first sign of trouble at the destination, which knows better what it was.
net::awaitable<void> SourceMigration::feed_failed(Error error) {
  const auto self = shared_from_this();
  const auto deadline = Clock::now() + explain_limit;
  while (!failure_ && Clock::now() < deadline) co_await changed_.wait_until(deadline);
  failed(Error(error.errc(), fmt::format("sending pages to node '{}': {}", peer_node_, error.message()), error.hint()));
}

}  // namespace godwit::service
