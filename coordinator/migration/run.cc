#include "coordinator/migration/run.h"

#include "common/base/log.h"
#include "common/base/units.h"
#include "coordinator/migration/json.h"

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace godwit::coordinator {
namespace {

using net::awaitable;
using std::chrono::nanoseconds;

std::int64_t unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

// The seed of the checksums, which the page server never sees: from the kernel, not from a generator.
std::uint64_t random_u64() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

RoundRecord to_record(const api::RoundDone& r, bool final) {
  return {.number = r.number(), .pages = r.pages(), .zero_pages = r.zero_pages(), .bytes = r.bytes(),
          // Numbers from a peer are divided by and stored: they must be numbers.
          .seconds = std::isfinite(r.seconds()) && r.seconds() > 0 ? r.seconds() : 0,
          .dirty_bytes_after = r.dirty_bytes_after(), .final = final};
}

template <class Steps>
std::vector<StepRecord> to_records(const Steps& steps) {
  constexpr int most = 64;
  std::vector<StepRecord> records;
  for (const api::Step& s : steps)
    if (records.size() < most) records.push_back({s.name().substr(0, 64), static_cast<std::int64_t>(s.nanoseconds())});
  return records;
}

struct Answer {
  std::optional<api::Envelope> envelope;
  std::exception_ptr problem;
};

// `a || b` waits for the first success, so a failure has to be one.
awaitable<Answer> answer_of(awaitable<api::Envelope> asking) {
  Answer answer;
  try {
    answer.envelope = co_await std::move(asking);
  } catch (...) {
    answer.problem = std::current_exception();
  }
  co_return answer;
}

}  // namespace

Run::Run(net::Executor executor, Store& store, Registry& registry, const Limits& limits, Migration migration, nanoseconds overhead)
    : store_(store), registry_(registry), limits_(limits), m_(std::move(migration)), overhead_(overhead),
      changed_(std::move(executor)), began_here_(m_.phase == Phase::queued) {}

awaitable<void> Run::drive() {
  if (!began_here_) recover();
  while (!settled(m_.phase)) {
    const Event event = co_await step();
    const std::optional<Phase> to = next(m_.phase, event);
    if (!to) log::error("migration.no_arrow", {{"migration", m_.id}, {"phase", name(m_.phase)}, {"event", static_cast<int>(event)}});
    enter(to.value_or(Phase::undecided));
  }
  settle();
}

// Taken over from the journal: what was known of the two sides is gone, so nothing but their records counts.
void Run::recover() {
  froze_ = asked_destination_ = true;
  if (m_.phase == Phase::undecided) {
    m_.outcome.reset();
    enter(Phase::asking);
  } else if (m_.phase < Phase::arming) {
    blame(Error(Errc::cancelled, "the coordinator was restarted", "start the migration again"));
    enter(Phase::rolling_back);
  } else if (m_.phase == Phase::arming || m_.phase == Phase::committing) {
    enter(Phase::asking);
  }
}

awaitable<Event> Run::step() {
  std::exception_ptr problem;
  try {
    if (m_.phase < Phase::freezing) {
      if (journal_failure_) throw *journal_failure_;
      if (stopping_) throw Error(Errc::cancelled, "the coordinator is shutting down", "start the migration again");
    }
    switch (m_.phase) {
      case Phase::queued: co_return Event::ok;
      case Phase::surveying: co_return co_await survey();
      case Phase::preparing: co_return co_await prepare();
      case Phase::connecting: co_return co_await connect();
      case Phase::precopy: co_return co_await round();
      case Phase::freezing: co_return co_await freeze();
      case Phase::finishing: co_return co_await finish();
      case Phase::arming: co_return co_await arm();
      case Phase::committing: co_return co_await commit();
      case Phase::killing: co_return co_await kill();
      case Phase::rolling_back: co_return co_await roll_back();
      case Phase::asking: co_return co_await read_records();
      case Phase::done:
      case Phase::rolled_back:
      case Phase::undecided: co_return Event::ok;
    }
  } catch (...) {
    problem = std::current_exception();
  }
  blame(net::to_error(problem));
  co_return Event::fault;
}

awaitable<Event> Run::survey() {
  source_store_ = registry_.node(m_.spec.source).info.store_uuid();
  destination_store_ = registry_.node(m_.spec.destination).info.store_uuid();
  api::Envelope request;
  api::Survey& survey = *request.mutable_survey();
  fill(survey.mutable_id());
  if (m_.spec.pid) survey.set_pid(m_.spec.pid);
  else survey.set_workload(m_.spec.workload);
  fill(survey.mutable_options());
  api::Envelope reply = co_await ask_while(m_.spec.source, std::move(request), api::Envelope::kSurveyed, limits_.survey);
  surveyed_ = std::move(*reply.mutable_surveyed());

  if (m_.spec.pid && !surveyed_.workload().empty()) {
    check_name("workload", surveyed_.workload());
    m_.spec.workload = surveyed_.workload();
    journal([&] { store_.name_workload(m_.id, m_.spec.workload); });
  }
  for (const std::string& notice : surveyed_.notices()) record("notice", {{"text", notice}});
  if (surveyed_.refusals_size() > 0) {
    record("refusals", {{"refusals", std::vector<std::string>(surveyed_.refusals().begin(), surveyed_.refusals().end())}});
    throw Error(Errc::refused, fmt::format("cannot be moved: {}", fmt::join(surveyed_.refusals(), "; ")));
  }
  co_return Event::ok;
}

awaitable<Event> Run::prepare() {
  seed_ = random_u64();
  asked_destination_ = true;
  api::Envelope request;
  api::Prepare& prepare = *request.mutable_prepare();
  fill(prepare.mutable_id());
  prepare.set_source_node(m_.spec.source);
  prepare.set_survey(surveyed_.engine());
  *prepare.mutable_workload() = surveyed_.info();
  fill(prepare.mutable_options());
  prepare.set_seed(seed_);
  api::Envelope reply = co_await ask_while(m_.spec.destination, std::move(request), api::Envelope::kPrepared, limits_.prepare);
  prepared_ = std::move(*reply.mutable_prepared());
  if (prepared_.token().empty() || prepared_.peer_address().empty() || prepared_.pages_address().empty())
    fail(Errc::protocol, "node '{}' opened a session without saying where or for whom", m_.spec.destination);
  co_return Event::ok;
}

awaitable<Event> Run::connect() {
  api::Envelope request;
  api::Connect& connect = *request.mutable_connect();
  fill(connect.mutable_id());
  connect.set_destination_node(m_.spec.destination);
  connect.set_peer_address(prepared_.peer_address());
  connect.set_pages_address(prepared_.pages_address());
  connect.set_token(prepared_.token());
  connect.set_seed(seed_);
  co_await ask_while(m_.spec.source, std::move(request), api::Envelope::kOk, limits_.connect);
  co_return Event::ok;
}

awaitable<Event> Run::round() {
  const Measurements measured{.rounds = m_.rounds, .elapsed = Clock::now() - began_, .overhead = overhead_};
  const Decision decision = decide(measured, m_.spec.policy);
  const double predicted_ms = static_cast<double>(decision.predicted_downtime.count()) / 1e6;
  if (!m_.rounds.empty())
    record("decision", {{"action", decision.action == Action::another_round ? "another_round"
                                   : decision.action == Action::freeze      ? "freeze"
                                                                            : "give_up"},
                        {"predicted_downtime_ms", predicted_ms}, {"reason", decision.reason}});
  switch (decision.action) {
    case Action::give_up:
      throw Error(Errc::refused, decision.reason,
                  "raise --downtime, lower the load, or take the longer pause with --on-no-progress force");
    case Action::freeze:
      m_.predicted_downtime_ns = decision.predicted_downtime.count();
      journal([&] { store_.set_prediction(m_.id, m_.predicted_downtime_ns); });
      co_return Event::ok;
    case Action::another_round: break;
  }
  api::Envelope request;
  fill(request.mutable_round()->mutable_id());
  request.mutable_round()->set_number(static_cast<std::uint32_t>(m_.rounds.size()));
  const api::Envelope reply = co_await ask_while(m_.spec.source, std::move(request), api::Envelope::kRoundDone, limits_.stall);
  m_.rounds.push_back(to_record(reply.round_done(), false));
  m_.rounds.back().number = static_cast<std::uint32_t>(m_.rounds.size() - 1);
  journal([&] { store_.add_round(m_.id, m_.rounds.back()); });
  record("round", to_json(m_.rounds.back()));
  co_return Event::another_round;
}

// From here until the destination has resumed the workload stands still: no fsync, no news to watchers, five messages.
awaitable<Event> Run::freeze() {
  froze_ = true;
  pause_.emplace(store_);
  api::Envelope request;
  fill(request.mutable_freeze()->mutable_id());
  request.mutable_freeze()->set_number(static_cast<std::uint32_t>(m_.rounds.size()));
  request.mutable_freeze()->set_child_patience_ms(limits_.child_patience_ms);
  const Clock::duration limit = pause_limit() + std::chrono::milliseconds(limits_.child_patience_ms);
  const api::Envelope reply = co_await ask(m_.spec.source, std::move(request), api::Envelope::kFrozen, limit);
  last_sequence_ = reply.frozen().round().last_sequence();
  times_.frozen = to_records(reply.frozen().steps());
  m_.rounds.push_back(to_record(reply.frozen().round(), true));
  m_.rounds.back().number = static_cast<std::uint32_t>(m_.rounds.size() - 1);
  co_return Event::ok;
}

awaitable<Event> Run::finish() {
  api::Envelope request;
  fill(request.mutable_finish()->mutable_id());
  request.mutable_finish()->set_sequence(last_sequence_);
  const std::uint64_t asked = monotonic_ns();
  const api::Envelope reply = co_await ask(m_.spec.destination, std::move(request), api::Envelope::kFinished, pause_limit());
  times_.finish_ns = static_cast<std::int64_t>(monotonic_ns() - asked);
  times_.finished = to_records(reply.finished().steps());
  destination_boot_ = reply.finished().boot_id();
  arrived_ = reply.finished().workload();
  co_return Event::ok;
}

awaitable<Event> Run::arm() {
  api::Envelope request;
  fill(request.mutable_arm()->mutable_id());
  request.mutable_arm()->set_destination_node(m_.spec.destination);
  request.mutable_arm()->set_destination_boot(destination_boot_);
  const std::uint64_t asked = monotonic_ns();
  const api::Envelope reply = co_await ask(m_.spec.source, std::move(request), api::Envelope::kArmed, limits_.arm);
  times_.arm_ns = static_cast<std::int64_t>(monotonic_ns() - asked);
  commit_token_ = reply.armed().commit_token();
  co_return Event::ok;
}

awaitable<Event> Run::commit() {
  api::Envelope request;
  fill(request.mutable_commit()->mutable_id());
  request.mutable_commit()->set_commit_token(commit_token_);
  const std::uint64_t asked = monotonic_ns();
  const api::Envelope reply = co_await ask(m_.spec.destination, std::move(request), api::Envelope::kResumed, limits_.commit);
  times_.commit_ns = static_cast<std::int64_t>(monotonic_ns() - asked);
  times_.resumed = to_records(reply.resumed().steps());
  co_return Event::ok;
}

awaitable<api::Envelope> Run::ask(std::string node, api::Envelope request, Reply expected, Clock::duration limit) {
  const std::shared_ptr<net::Channel> channel = registry_.channel(node);
  api::Envelope reply = co_await channel->ask(std::move(request), limit);
  if (reply.body_case() != expected) {
    const auto* field = api::Envelope::descriptor()->FindFieldByNumber(expected);
    fail(Errc::protocol, "node '{}' answered something else than '{}'", node, field->name());
  }
  co_return reply;
}

awaitable<api::Envelope> Run::ask_while(std::string node, api::Envelope request, Reply reply, Clock::duration stall) {
  using namespace boost::asio::experimental::awaitable_operators;
  constexpr auto without_end = std::chrono::hours(24 * 30);  // stalled_or_stopped() is the end
  heard_ = Clock::now();
  awaitable<api::Envelope> asking = ask(node, std::move(request), reply, without_end);
  auto first = co_await (answer_of(std::move(asking)) || stalled_or_stopped(stall));
  if (first.index() == 1) std::rethrow_exception(std::get<1>(first));
  Answer& answer = std::get<0>(first);
  if (answer.problem) std::rethrow_exception(answer.problem);
  co_return std::move(*answer.envelope);
}

awaitable<std::exception_ptr> Run::stalled_or_stopped(Clock::duration stall) {
  while (!stopping_ && Clock::now() - heard_ < stall) co_await net::sleep_for(std::min<Clock::duration>(stall, std::chrono::milliseconds(100)));
  if (stopping_) co_return std::make_exception_ptr(Error(Errc::cancelled, "the coordinator is shutting down", "start the migration again"));
  co_return std::make_exception_ptr(Error(
      Errc::timed_out, fmt::format("no progress for {:.3g} s while {}", std::chrono::duration<double>(stall).count(), name(m_.phase)),
      "is the path between the nodes up?"));
}

void Run::progress(const std::string& node, const api::Progress& p) {
  if (node != m_.spec.source && node != m_.spec.destination) return;
  heard_ = Clock::now();
  // Agents count over the whole migration; people look at one round.
  const std::uint64_t before = total_bytes(m_);
  const std::uint64_t expected = m_.rounds.empty() ? surveyed_.resident_bytes() : m_.rounds.back().dirty_bytes_after;
  latest_progress_ = {{"round", m_.rounds.size()},
                      {"bytes", p.bytes() > before ? p.bytes() - before : 0},
                      {"expected_bytes", p.expected_bytes() ? p.expected_bytes() : expected}};
  progress_version_++;
  if (!pause_) changed_.notify();
}

void Run::stop() {
  stopping_ = true;
}

void Run::enter(Phase phase) {
  m_.phase = phase;
  journal([&] { store_.enter(m_.id, phase); });
  record("phase", {{"phase", name(phase)}});
  log::info("migration.phase", {{"migration", m_.id}, {"workload", m_.spec.workload}, {"phase", name(phase)}});
}

// A journal that cannot be written stops a migration that has not yet frozen anything; later it must not stand in the way.
template <class F>
void Run::journal(F&& write) {
  try {
    write();
  } catch (const Error& e) {
    if (!journal_failure_) log::error("migration.journal_failed", {{"migration", m_.id}, {"message", e.message()}});
    journal_failure_ = e;
  }
}

void Run::record(const std::string& kind, nlohmann::json body) {
  journal([&] { store_.append(m_.id, kind, std::move(body)); });
  if (!pause_) changed_.notify();
}

void Run::blame(const Error& error) {
  log::warn("migration.fault", {{"migration", m_.id}, {"phase", name(m_.phase)}, {"code", godwit::name(error.errc())}, {"message", error.message()}});
  record("fault", {{"phase", name(m_.phase)}, {"code", godwit::name(error.errc())}, {"message", error.message()}, {"hint", error.hint()}});
  if (m_.reason) return;  // what came first is why
  m_.reason = Reason{error.errc(), error.message(), error.hint()};
  failed_in_ = m_.phase;
}

void Run::settle() {
  pause_.reset();
  if (m_.phase == Phase::done) m_.reason.reset();
  tell_registry();
  m_.outcome = outcome();
  m_.finished_unix_ms = unix_ms();
  m_.total_s = began_here_ ? std::chrono::duration<double>(Clock::now() - began_).count()
                           : static_cast<double>(m_.finished_unix_ms - m_.created_unix_ms) / 1e3;
  if (m_.downtime_ns > 0) {
    times_.downtime_ns = m_.downtime_ns;
    m_.steps = split_pause(times_);
  }
  journal([&] {
    for (const RoundRecord& r : m_.rounds)
      if (r.final) store_.add_round(m_.id, r);
    store_.finish(m_);
  });
  record("outcome", to_json(m_));
  store_.checkpoint();
  log::info("migration.settled", {{"migration", m_.id}, {"workload", m_.spec.workload}, {"outcome", name(*m_.outcome)},
                                  {"downtime_ms", static_cast<double>(m_.downtime_ns) / 1e6}, {"total_s", m_.total_s}});
}

// What the agents would say when asked the next time.
void Run::tell_registry() {
  const std::string& workload = m_.spec.workload;
  if (m_.phase == Phase::done) {
    registry_.gone(m_.spec.source, workload);
    arrived_.set_name(workload);
    arrived_.set_state("running");
    registry_.update(m_.spec.destination, arrived_);
  } else if (m_.phase == Phase::rolled_back) {
    registry_.gone(m_.spec.destination, workload);
    const auto node = registry_.nodes().find(m_.spec.source);
    if (node == registry_.nodes().end() || !node->second.workloads.contains(workload)) return;
    api::WorkloadInfo back = node->second.workloads.at(workload);
    if (back.state() == "frozen") back.set_state("running");
    registry_.update(m_.spec.source, back);
  }
}

Outcome Run::outcome() const {
  if (m_.phase == Phase::done) return Outcome::done;
  if (m_.phase != Phase::rolled_back) return Outcome::unknown;
  if (!m_.reason || failed_in_ > Phase::preparing) return Outcome::rolled_back;
  // An agent that says no is a refusal; one that breaks, or cannot be reached, is a failure.
  switch (m_.reason->code) {
    case Errc::unsupported:
    case Errc::refused:
    case Errc::invalid_argument:
    case Errc::not_found:
    case Errc::already_exists:
    case Errc::target_gone:
    case Errc::kernel_missing:
    case Errc::denied:
    case Errc::no_space:
    case Errc::busy: return Outcome::refused;
    case Errc::image_corrupt:
    case Errc::peer_lost:
    case Errc::protocol:
    case Errc::timed_out:
    case Errc::cancelled:
    case Errc::internal: return Outcome::rolled_back;
  }
  return Outcome::rolled_back;
}

Clock::duration Run::pause_limit() const {
  return limits_.pause + 2 * std::max(nanoseconds(m_.predicted_downtime_ns), m_.spec.policy.downtime);
}

void Run::fill(api::MigrationId* id) const {
  id->set_migration(m_.id);
  id->set_epoch(m_.epoch);
}

void Run::fill(api::Options* options) const {
  options->set_tcp_close(m_.spec.tcp_close);
  options->set_force(m_.spec.policy.on_no_progress == OnNoProgress::force);
  for (const std::string& path : m_.spec.assume_shared) options->add_assume_shared(path);
  options->set_spool_limit(m_.spec.spool_limit);
  options->set_streams(m_.spec.streams);
  options->set_rate_limit(m_.spec.rate_limit);
}

}  // namespace godwit::coordinator
