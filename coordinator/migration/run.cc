#include "coordinator/migration/run.h"

#include "common/base/fault.h"
#include "common/base/log.h"
#include "common/base/wall_clock.h"
#include "coordinator/migration/json.h"

#include <algorithm>

namespace godwit::coordinator {
namespace {

using net::awaitable;
using std::chrono::nanoseconds;

constexpr auto most_pause = std::chrono::seconds(10);

Error cancelled_by(const std::string& who) {
  return {Errc::cancelled, who.empty() ? "cancelled on request" : "cancelled by " + who,
          "start the migration again when ready"};
}

}  // namespace

Run::Run(net::Executor executor, Store& store, Registry& registry, const Limits& limits, Migration migration,
         const Overhead& overhead)
    : store_(store),
      registry_(registry),
      limits_(limits),
      m_(std::move(migration)),
      changed_(executor),
      giving_up_(std::move(executor)),
      began_here_(m_.phase == Phase::queued) {
  measured_.overhead = overhead.least;
  measured_.pauses = overhead.pauses;
  measured_.rate_limit = m_.spec.rate_limit;
}

awaitable<void> Run::drive() {
  if (!began_here_) recover();
  while (!settled(m_.phase)) {
    const Event event = co_await step();
    const std::optional<Phase> to = next(m_.phase, event);
    if (!to)
      log::error("migration.no_arrow",
                 {{"migration", m_.id}, {"phase", name(m_.phase)}, {"event", static_cast<int>(event)}});
    enter(to.value_or(Phase::undecided));
  }
  settle();
  if (unchanged_) co_return;  // unknown still, as the journal says
  // Whoever asks how it ended is told from the journal: until the end is there, after a full disk say, it is under way.
  const auto journal_end = [this] {
    journal_failure_.reset();
    journal([this] {
      for (const RoundRecord& r : m_.rounds) store_.add_round(m_.id, r);
      store_.finish(m_);
      store_.append(m_.id, "outcome", to_json(m_));
    });
    changed_.notify();
    return !journal_failure_;
  };
  Clock::duration pause = limits_.interval;
  while (!journal_end() && !stopping_) {
    co_await giving_up_.wait_until(Clock::now() + pause);
    pause = std::min<Clock::duration>(2 * pause, most_pause);
  }
  store_.checkpoint();
}

// Taken over from the journal: what was known of the two sides is gone, so nothing but their records counts.
void Run::recover() {
  froze_ = asked_destination_ = true;
  asked_to_commit_ = true;  // whatever the phase: the end of the journal may have been lost with the machine
  recall();
  if (m_.reason) failed_in_ = Phase::asking;  // it was on its way: nothing says any more that nothing was touched
  if (m_.phase == Phase::undecided && m_.outcome) {
    unchanged_ = true;
    m_.phase = Phase::asking;
  } else if (m_.phase == Phase::undecided) {
    enter(Phase::asking);
  } else if (m_.phase < Phase::arming || (m_.spec.rehearse && m_.phase == Phase::rolling_back)) {
    blame(cancelled_.value_or(Error(Errc::cancelled, "the coordinator was restarted", "start the migration again")));
    enter(Phase::rolling_back);
  } else if (m_.phase == Phase::arming || m_.phase == Phase::committing) {
    enter(Phase::asking);
  }
}

// Why it ends is in its row only when it has ended.
void Run::recall() {
  const bool ended = m_.reason.has_value();
  journal([&] {
    for (const StoredEvent& e : store_.events(m_.id, 0)) {
      if (e.kind == "cancel") {
        cancelled_ = cancelled_by(e.body.value("by", ""));
        cancel_kept_ = true;
      }
      if (e.kind == "stores") {
        source_store_ = e.body.value("source", "");
        destination_store_ = e.body.value("destination", "");
      }
      if (e.kind != "fault" || ended) continue;
      const Reason why{errc_from_name(e.body.value("code", "")), e.body.value("message", ""), e.body.value("hint", "")};
      if (!m_.reason || is_of_the_cancel(why)) m_.reason = why;
    }
  });
}

awaitable<Event> Run::step() {
  std::exception_ptr problem;
  try {
    if (m_.phase < Phase::freezing && journal_failure_) throw *journal_failure_;
    if (const std::optional<Error> why = why_given_up()) throw *why;
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

void Run::progress(const std::string& node, const api::Progress& p) {
  if (node != m_.spec.source && node != m_.spec.destination) return;
  heard_ = Clock::now();
  if (node != m_.spec.source) return;  // the destination says no more than that it is at work
  // Agents count over the whole migration; people look at one round.
  const std::uint64_t before = total_bytes(m_);
  const std::uint64_t expected = m_.rounds.empty() ? surveyed_.resident_bytes() : m_.rounds.back().dirty_bytes_after;
  latest_progress_ = {{"round", m_.rounds.size()},
                      {"bytes", p.bytes() > before ? p.bytes() - before : 0},
                      {"expected_bytes", p.expected_bytes() ? p.expected_bytes() : expected}};
  progress_version_++;
  if (!pause_) changed_.notify();
}

std::uint64_t Run::needed_bytes() const {
  return surveyed_.resident_bytes() > 0 ? surveyed_.resident_bytes() + m_.spec.spool_limit : 0;
}

void Run::stop() {
  stopping_ = true;
  giving_up_.notify();
}

void Run::cancel(const std::string& by) {
  const bool undoes = m_.phase == Phase::rolling_back || cancelled_;
  const bool committing = asked_to_commit_ || m_.phase == Phase::committing;
  if (m_.phase == Phase::killing || (committing && !undoes))
    throw Error(Errc::busy, fmt::format("too late: migration {} is {}", m_.id, name(m_.phase)),
                "the records of both nodes decide how it ends; `godwit watch` tells");
  if (cancel_kept_) return;
  if (!cancelled_) cancelled_ = cancelled_by(by);
  pause_.reset();
  // Whoever asks is promised that also a later life of the coordinator keeps to it.
  journal([&] {
    store_.append_durably(m_.id, "cancel", {{"by", by}});
    cancel_kept_ = true;
  });
  changed_.notify();
  log::info("migration.cancel", {{"migration", m_.id}, {"phase", name(m_.phase)}, {"by", by}});
  if (m_.phase != Phase::rolling_back) giving_up_.notify();
  if (!cancel_kept_)
    throw Error(Errc::internal, fmt::format("cancelled, but not kept: {}", journal_failure_->message()),
                "a coordinator that is restarted now does not know of it: make room, then cancel again");
}

bool Run::is_of_the_cancel(const Reason& why) const {
  return cancelled_ && why.code == cancelled_->errc() && why.message == cancelled_->message();
}

// Without the cancel it might have gone on, whatever had gone wrong before.
void Run::blame_cancel() {
  if (m_.reason && is_of_the_cancel(*m_.reason)) return;
  m_.reason.reset();
  blame(*cancelled_);
}

void Run::enter(Phase phase) {
  if (unchanged_ && phase != Phase::undecided) {
    unchanged_ = false;
    m_.outcome.reset();
    enter(Phase::asking);
  }
  m_.phase = phase;
  if (unchanged_) return;  // the journal has said so already
  journal([&] { store_.enter(m_.id, phase); });
  fault::point(fmt::format("coordinator.{}", name(phase)));
  record("phase", {{"phase", name(phase)}});
  log::info("migration.phase", {{"migration", m_.id}, {"workload", m_.spec.workload}, {"phase", name(phase)}});
}

// A journal that cannot be written stops a migration that has not yet frozen anything; later it must not stand in the
// way.
void Run::journal(const std::function<void()>& write) {
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

void Run::note(const std::string& text) {
  m_.notices.push_back(text);
  record("notice", {{"text", text}});
}

void Run::blame(const Error& error) {
  log::warn("migration.fault", {{"migration", m_.id},
                                {"phase", name(m_.phase)},
                                {"code", godwit::name(error.errc())},
                                {"message", error.message()}});
  record("fault", {{"phase", name(m_.phase)},
                   {"code", godwit::name(error.errc())},
                   {"message", error.message()},
                   {"hint", error.hint()}});
  if (m_.reason) return;  // what came first is why
  m_.reason = Reason{error.errc(), error.message(), error.hint()};
  failed_in_ = m_.phase;
}

void Run::settle() {
  pause_.reset();
  if (unchanged_) return;
  if (m_.phase == Phase::done) m_.reason.reset();
  tell_registry();
  m_.outcome = outcome();
  m_.finished_unix_ms = unix_ms();
  // Of one that was taken over, the time of day is all there is to measure by, and it may have been put back.
  m_.total_s = began_here_
                   ? std::chrono::duration<double>(Clock::now() - began_).count()
                   : static_cast<double>(std::max<std::int64_t>(0, m_.finished_unix_ms - m_.created_unix_ms)) / 1e3;
  if (m_.downtime_ns > 0) {
    times_.downtime_ns = m_.downtime_ns;
    m_.steps = split_pause(times_);
  }
  log::info("migration.settled", {{"migration", m_.id},
                                  {"workload", m_.spec.workload},
                                  {"outcome", name(*m_.outcome)},
                                  {"downtime_ms", static_cast<double>(m_.downtime_ns) / 1e6},
                                  {"total_s", m_.total_s}});
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
  if (rehearsed_ && !m_.reason) return Outcome::rehearsed;
  if (!m_.reason || (failed_in_ > Phase::preparing && !refused_)) return Outcome::rolled_back;
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

bool Run::keeps_budget() const { return most_bytes_ > 0 && m_.spec.policy.on_no_progress != OnNoProgress::force; }

Clock::duration Run::longest_pause() const { return limits_.beyond_budget + 2 * m_.spec.policy.downtime; }

std::optional<Run::Deadline> Run::end_of_pause() const {
  if (!keeps_budget()) return std::nullopt;
  const auto ms = [](nanoseconds t) { return std::chrono::duration<double, std::milli>(t).count(); };
  return Deadline{
      stopped_ + longest_pause(),
      Error(Errc::refused,
            fmt::format("the workload has stood still for {:.0f} ms, and is let go: predicted downtime "
                        "{:.0f} ms, budget {:.0f} ms",
                        ms(longest_pause()), static_cast<double>(m_.predicted_downtime_ns) / 1e6,
                        ms(m_.spec.policy.downtime)),
            "is the destination busy? Raise --downtime, or take a longer pause with --on-no-progress force")};
}

Clock::duration Run::pause_limit() const {
  return limits_.pause + 2 * std::max(nanoseconds(m_.predicted_downtime_ns), m_.spec.policy.downtime);
}

}  // namespace godwit::coordinator
