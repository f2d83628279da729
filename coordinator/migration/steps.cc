// The steps of a migration that goes well, in their order. outcome.cc has those of one that does not.
#include "common/base/units.h"
#include "coordinator/fleet/forecast.h"
#include "coordinator/migration/hopeless.h"
#include "coordinator/migration/json.h"
#include "coordinator/migration/run.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <random>

namespace godwit::coordinator {
namespace {

using net::awaitable;

constexpr unsigned remembered = 50;                  // migrations, for what a path carries
constexpr std::uint64_t highest_epoch = 1ull << 62;  // that is believed: the journal's numbers have a sign
constexpr unsigned most_raised = 4;                  // each side once, and once more for what comes in between

// The seed of the checksums, which the page server never sees: from the kernel, not from a generator.
std::uint64_t random_u64() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

RoundRecord to_record(const api::RoundDone& r, bool final) {
  return {.number = r.number(),
          .pages = r.pages(),
          .zero_pages = r.zero_pages(),
          .bytes = r.bytes(),
          // Numbers from a peer are divided by and stored: they must be numbers.
          .seconds = std::isfinite(r.seconds()) && r.seconds() > 0 ? r.seconds() : 0,
          .dirty_bytes_after = r.dirty_bytes_after(),
          .final = final};
}

std::int64_t now_ns() { return static_cast<std::int64_t>(monotonic_ns()); }

template <class Steps>
std::vector<StepRecord> to_records(const Steps& steps) {
  constexpr int most = 64;
  std::vector<StepRecord> records;
  for (const api::Step& s : steps)
    if (records.size() < most) records.push_back({s.name().substr(0, 64), believable(s.nanoseconds())});
  return records;
}

}  // namespace

awaitable<Event> Run::survey() {
  if (const auto error = hopeless(measured_, m_.spec.policy)) throw *error;
  source_store_ = registry_.node(m_.spec.source).info.store_uuid();
  destination_store_ = registry_.node(m_.spec.destination).info.store_uuid();
  record("stores", {{"source", source_store_}, {"destination", destination_store_}});
  co_await ask_survey();
  if (m_.spec.pid && !surveyed_.workload().empty()) {
    check_name("workload", surveyed_.workload());
    m_.spec.workload = surveyed_.workload();
    journal([&] { store_.name_workload(m_.id, m_.spec.workload); });
  }
  for (const std::string& notice : surveyed_.notices()) note(notice);
  if (surveyed_.refusals_size() > 0) {
    record("refusals",
           {{"refusals", std::vector<std::string>(surveyed_.refusals().begin(), surveyed_.refusals().end())}});
    throw Error(Errc::refused, fmt::format("cannot be moved: {}", fmt::join(surveyed_.refusals(), "; ")));
  }
  co_return Event::ok;
}

awaitable<void> Run::ask_survey() {
  do {
    if (const std::uint64_t seen = surveyed_.newer_epoch()) rise_above(m_.spec.source, seen);
    api::Envelope request;
    api::Survey& survey = *request.mutable_survey();
    fill(survey.mutable_id());
    if (m_.spec.pid)
      survey.set_pid(m_.spec.pid);
    else
      survey.set_workload(m_.spec.workload);
    coordinator::fill(survey.mutable_options(), m_.spec);
    api::Envelope reply =
        co_await ask_while(m_.spec.source, std::move(request), api::Envelope::kSurveyed, limits_.survey);
    surveyed_ = std::move(*reply.mutable_surveyed());
  } while (surveyed_.newer_epoch() > 0);
}

// An agent keeps the highest epoch that it has seen of a workload for ever. Our journal may be an older one, or a new
// one, that does not know it. Nothing was made under this one yet.
void Run::rise_above(const std::string& node, std::uint64_t seen) {
  if (seen < m_.epoch || seen > highest_epoch || ++raised_ > most_raised)
    fail(Errc::protocol, "node '{}' has seen epoch {} and does not take {}", node, seen, m_.epoch);
  const std::uint64_t epoch = store_.next_epoch(subject_of(m_.spec), seen);
  store_.set_epoch(m_.id, epoch);
  m_.epoch = epoch;
  note(fmt::format("node '{}' has seen epoch {} of it, which the journal does not know: this is epoch {} now", node,
                   seen, epoch));
}

awaitable<Event> Run::prepare() {
  co_await ask_prepare();
  while (const std::uint64_t seen = prepared_.newer_epoch()) {
    rise_above(m_.spec.destination, seen);
    co_await ask_survey();  // the source must know it as well
    co_await ask_prepare();
  }
  if (prepared_.token().empty() || prepared_.peer_address().empty() || prepared_.pages_address().empty())
    fail(Errc::protocol, "node '{}' opened a session without saying where or for whom", m_.spec.destination);
  for (const std::string& notice : prepared_.notices()) note(notice);
  co_return Event::ok;
}

awaitable<void> Run::ask_prepare() {
  seed_ = random_u64();
  asked_destination_ = true;
  api::Envelope request;
  api::Prepare& prepare = *request.mutable_prepare();
  fill(prepare.mutable_id());
  prepare.set_source_node(m_.spec.source);
  prepare.set_survey(surveyed_.engine());
  *prepare.mutable_workload() = surveyed_.info();
  coordinator::fill(prepare.mutable_options(), m_.spec);
  prepare.set_seed(seed_);
  api::Envelope reply =
      co_await ask_while(m_.spec.destination, std::move(request), api::Envelope::kPrepared, limits_.prepare);
  prepared_ = std::move(*reply.mutable_prepared());
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
  if (on_sending_) on_sending_();
  co_return Event::ok;
}

awaitable<Event> Run::round() {
  measured_.rounds = m_.rounds;
  measured_.elapsed = Clock::now() - began_;
  if (m_.spec.policy.max_rounds == 0) {
    measured_.resident_bytes = surveyed_.resident_bytes();
    measured_.expected_rate = forecast(m_.spec, surveyed_.resident_bytes(), store_.migrations(remembered)).rate;
  }
  const Decision decision = decide(measured_, m_.spec.policy);
  const double predicted_ms = static_cast<double>(decision.predicted_downtime.count()) / 1e6;
  if (!m_.rounds.empty())
    record("decision",
           {{"action", name(decision.action)}, {"predicted_downtime_ms", predicted_ms}, {"reason", decision.reason}});
  switch (decision.action) {
    case Action::give_up: refused_ = decision.refuses; throw refusal(decision);
    case Action::throttle: co_await throttle(decision); co_return Event::another_round;
    case Action::freeze:
      most_bytes_ = decision.most_bytes;
      m_.predicted_downtime_ns = decision.predicted_downtime.count();
      journal([&] { store_.set_prediction(m_.id, m_.predicted_downtime_ns); });
      co_return Event::ok;
    case Action::another_round: break;
  }
  api::Envelope request;
  fill(request.mutable_round()->mutable_id());
  request.mutable_round()->set_number(static_cast<std::uint32_t>(m_.rounds.size()));
  const api::Envelope reply = co_await ask_while(m_.spec.source, std::move(request), api::Envelope::kRoundDone,
                                                 limits_.stall, end_of_round(decision));
  add(to_record(reply.round_done(), false));
  measured_.owed_bytes = 0;
  journal([&] { store_.add_round(m_.id, m_.rounds.back()); });
  record("round", to_json(m_.rounds.back()));
  co_return Event::another_round;
}

// When the time for the whole migration is over in the middle of a round. What is left of one that is about to be
// followed by a freeze is worth waiting for; when it is forced, too, since the pause would have to move all that is
// left.
std::optional<Run::Deadline> Run::end_of_round(const Decision& decision) const {
  const PolicyOptions& policy = m_.spec.policy;
  if (policy.max_total_time.count() == 0 || policy.on_no_progress == OnNoProgress::force) return std::nullopt;
  const auto by_total = began_ + policy.max_total_time;
  const bool within = decision.predicted_downtime <= policy.downtime;
  return Deadline{
      within ? std::max(by_total, Clock::now() + longest_pause()) : by_total,
      Error(Errc::refused,
            fmt::format("the time for the whole migration, {:.3g} s, is over in round {}",
                        std::chrono::duration<double>(policy.max_total_time).count(), m_.rounds.size()),
            "raise --max-total-time or --rate-limit, or end with a longer pause by --on-no-progress force")};
}

awaitable<void> Run::throttle(Decision decision) {
  api::Envelope request;
  fill(request.mutable_throttle()->mutable_id());
  request.mutable_throttle()->set_percent(decision.cpu_percent);
  std::exception_ptr problem;
  api::Envelope reply;
  try {
    reply = co_await ask(m_.spec.source, std::move(request), api::Envelope::kThrottled, limits_.question);
  } catch (const Error&) {
    problem = std::current_exception();
  }
  if (problem) {
    const Error why = net::to_error(problem);
    throw Error(why.errc(), fmt::format("{}; but the workload cannot be throttled: {}", decision.reason, why.message()),
                why.hint().empty() ? "use --on-no-progress force, or raise --downtime" : why.hint());
  }
  measured_.cpu_percent = decision.cpu_percent;
  measured_.throttled_since = m_.rounds.size();
  measured_.over_budget = measured_.too_slow = 0;
  const double cpus = reply.throttled().cpus();
  record("throttle", {{"cpu_percent", decision.cpu_percent}, {"cpus", std::isfinite(cpus) ? cpus : 0}});
}

// Before anything but pages was sent: the workload stood still for a moment, and runs on.
Event Run::over_budget(const api::Frozen& frozen) {
  pause_.reset();
  if (frozen.has_caught_up()) record("round", to_json(m_.rounds.back()));
  measured_.owed_bytes = std::max<std::uint64_t>(frozen.over_budget().bytes(), 1);
  measured_.over_budget++;
  const bool slow = measured_.owed_bytes <= most_bytes_;
  if (slow) measured_.too_slow++;
  record("over_budget", {{"bytes", frozen.over_budget().bytes()},
                         {"most_bytes", most_bytes_},
                         {"too_slow", slow},
                         {"stopped_ms", static_cast<double>(believable(frozen.over_budget().stopped_ns())) / 1e6},
                         {"attempt", measured_.over_budget}});
  return Event::over_budget;
}

awaitable<void> Run::set_rate(std::uint64_t bytes_per_second, std::string by) {
  if (m_.phase <= Phase::connecting || m_.phase > Phase::freezing)
    throw Error(Errc::busy, fmt::format("migration {} is {}: no pages are being sent", m_.id, name(m_.phase)),
                "the rate can be changed during precopy");
  api::Envelope request;
  fill(request.mutable_set_rate()->mutable_id());
  request.mutable_set_rate()->set_rate_limit(bytes_per_second);
  co_await ask(m_.spec.source, std::move(request), api::Envelope::kOk, limits_.question);
  const bool raised = measured_.rate_limit > 0 && (bytes_per_second == 0 || bytes_per_second > measured_.rate_limit);
  if (raised) share_changed(Share::grew);
  measured_.rate_limit = bytes_per_second;
  record("rate", {{"rate_limit", bytes_per_second}, {"by", by}});
}

void Run::share_changed(Share share) {
  if (m_.phase <= Phase::connecting) return;
  const bool still_untried = measured_.rate_fell && m_.rounds.size() <= measured_.rate_since;
  measured_.rate_fell = share == Share::may_have_fallen || still_untried;
  measured_.rate_since = m_.rounds.size() + 1;  // the one that is under way has some of both
  measured_.over_budget = measured_.too_slow = 0;
}

// From here until the destination has resumed the workload stands still: no fsync, no news to watchers, five messages.
awaitable<Event> Run::freeze() {
  froze_ = true;
  pause_.emplace(store_);
  api::Envelope request;
  fill(request.mutable_freeze()->mutable_id());
  request.mutable_freeze()->set_number(static_cast<std::uint32_t>(m_.rounds.size()));
  request.mutable_freeze()->set_child_patience_ms(limits_.child_patience_ms);
  request.mutable_freeze()->set_most_bytes(most_bytes_);
  const Clock::duration most = keeps_budget() ? longest_pause() : pause_limit();
  request.mutable_freeze()->set_limit_ms(
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(most).count()));
  const Clock::duration limit = pause_limit() + std::chrono::milliseconds(limits_.child_patience_ms);
  times_.freeze.asked_ns = now_ns();
  const api::Envelope reply = co_await ask_while(m_.spec.source, std::move(request), api::Envelope::kFrozen, limit);
  times_.freeze.answered_ns = now_ns();
  times_.freeze.took_ns = believable(reply.took_ns());
  times_.freeze.steps = to_records(reply.frozen().steps());
  last_sequence_ = reply.frozen().round().last_sequence();
  if (reply.frozen().has_caught_up()) add(to_record(reply.frozen().caught_up(), false));
  if (reply.frozen().has_over_budget()) co_return over_budget(reply.frozen());
  add(to_record(reply.frozen().round(), true));
  // Its steps begin with the stop; but they are a peer's word.
  std::chrono::nanoseconds stood{0};
  for (const StepRecord& s : times_.freeze.steps) stood += std::chrono::nanoseconds(s.nanoseconds);
  stopped_ =
      Clock::now() - std::min(stood, std::chrono::nanoseconds(times_.freeze.answered_ns - times_.freeze.asked_ns));
  co_return Event::ok;
}

awaitable<Event> Run::finish() {
  api::Envelope request;
  fill(request.mutable_finish()->mutable_id());
  request.mutable_finish()->set_sequence(last_sequence_);
  times_.finish.asked_ns = now_ns();
  const api::Envelope reply = co_await ask_while(m_.spec.destination, std::move(request), api::Envelope::kFinished,
                                                 pause_limit(), end_of_pause());
  times_.finish.answered_ns = now_ns();
  times_.finish.took_ns = believable(reply.took_ns());
  times_.finish.steps = to_records(reply.finished().steps());
  destination_boot_ = reply.finished().boot_id();
  arrived_ = reply.finished().workload();
  rehearsed_ = m_.spec.rehearse;
  co_return rehearsed_ ? Event::rehearsed : Event::ok;
}

awaitable<Event> Run::arm() {
  api::Envelope request;
  fill(request.mutable_arm()->mutable_id());
  request.mutable_arm()->set_destination_node(m_.spec.destination);
  request.mutable_arm()->set_destination_boot(destination_boot_);
  times_.arm.asked_ns = now_ns();
  const api::Envelope reply =
      co_await ask_while(m_.spec.source, std::move(request), api::Envelope::kArmed, limits_.arm);
  times_.arm.answered_ns = now_ns();
  times_.arm.took_ns = believable(reply.took_ns());
  times_.arm.steps = to_records(reply.armed().steps());
  commit_token_ = reply.armed().commit_token();
  co_return Event::ok;
}

awaitable<Event> Run::commit() {
  asked_to_commit_ = true;
  api::Envelope request;
  fill(request.mutable_commit()->mutable_id());
  request.mutable_commit()->set_commit_token(commit_token_);
  times_.commit.asked_ns = now_ns();
  const api::Envelope reply =
      co_await ask(m_.spec.destination, std::move(request), api::Envelope::kResumed, limits_.commit);
  times_.commit.answered_ns = now_ns();
  times_.commit.took_ns = believable(reply.took_ns());
  times_.commit.steps = to_records(reply.resumed().steps());
  co_return Event::ok;
}

void Run::add(RoundRecord round) {
  round.number = static_cast<std::uint32_t>(m_.rounds.size());
  m_.rounds.push_back(std::move(round));
}

void Run::fill(api::MigrationId* id) const {
  id->set_migration(m_.id);
  id->set_epoch(m_.epoch);
}

void fill(api::Options* options, const MigrationSpec& spec) {
  options->set_tcp_close(spec.tcp_close);
  options->set_force(spec.policy.on_no_progress == OnNoProgress::force);
  for (const std::string& path : spec.assume_shared) options->add_assume_shared(path);
  options->set_spool_limit(spec.spool_limit);
  options->set_streams(spec.streams);
  options->set_rate_limit(spec.rate_limit);
  switch (spec.policy.if_lost) {
    case IfLost::automatic: break;
    case IfLost::thaw: options->set_if_lost(api::IF_LOST_THAW); break;
    case IfLost::hold: options->set_if_lost(api::IF_LOST_HOLD); break;
  }
}

}  // namespace godwit::coordinator
