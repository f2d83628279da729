#include "coordinator/fleet/preview.h"

#include "coordinator/migration/hopeless.h"
#include "coordinator/migration/json.h"
#include "coordinator/simulation/simulate.h"

#include <algorithm>

namespace godwit::coordinator {
namespace {

using net::awaitable;
using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto survey_limit = 25s;  // both together within what an HTTP client waits for
constexpr auto check_limit = 25s;
constexpr unsigned remembered = 50;

Reason reason_of(const Error& e) { return {e.errc(), e.message(), e.hint()}; }

struct LastTime {
  Trace trace;
  double rate;  // bytes per second
};

// How fast it writes is known from the rounds of the last attempt to move it, also of one that was given up. With less
// CPU time it wrote less: that tells nothing.
std::optional<LastTime> last_time(const Store& store, const std::string& workload) {
  constexpr unsigned most = 5;
  if (workload.empty()) return std::nullopt;
  for (const Migration& m : store.migrations(most, workload)) {
    if (m.rounds.empty() || m.rounds.front().final || m.spec.policy.on_no_progress == OnNoProgress::throttle) continue;
    try {
      return LastTime{.trace = trace_from_json(to_json(m), "migration " + m.id), .rate = bandwidth(m.rounds)};
    } catch (const Error&) {  // its rounds make no curve
      continue;
    }
  }
  return std::nullopt;
}

}  // namespace

json to_json(const Obstacle& o) {
  json body = to_json(o.reason);
  body["where"] = o.where;
  return body;
}

json to_json(const Forecast& f) {
  return {{"bytes", f.bytes},
          {"total_s", f.total_s},
          {"downtime_ms", static_cast<double>(f.downtime_ns) / 1e6},
          {"basis", f.basis}};
}

json to_json(const Preview& p) {
  json obstacles = json::array();
  for (const Obstacle& o : p.obstacles) obstacles.push_back(to_json(o));
  const bool surveyed = !p.surveyed.engine().empty();
  return {{"workload", p.spec.workload},
          {"pid", p.spec.pid},
          {"from", p.spec.source},
          {"to", p.spec.destination},
          {"would_move", p.obstacles.empty()},
          {"obstacles", obstacles},
          {"notices", p.notices},
          {"downtime_budget_ms", static_cast<double>(p.spec.policy.downtime.count()) / 1e6},
          {"resident_bytes", surveyed ? json(p.surveyed.resident_bytes()) : json()},
          {"predicted", surveyed ? to_json(p.forecast) : json()}};
}

// The policy over what was measured the last time, at the size of today.
void Previewer::simulate_rounds(Preview& p, Trace trace, double rate) const {
  trace.memory_bytes = p.surveyed.resident_bytes();
  rate = std::max(rate, p.forecast.rate);
  if (p.spec.rate_limit > 0) rate = std::min(rate, static_cast<double>(p.spec.rate_limit));
  const Simulation s = simulate(trace, {.bytes_per_s = rate}, p.spec.policy);
  if (s.decision.action == Action::give_up) {
    const Error no = refusal(s.decision);
    p.obstacles.push_back(
        {.where = "coordinator",
         .reason = {no.errc(), "if it writes as when it was last moved: " + no.message(), no.hint()}});
    return;
  }
  p.notices.push_back(fmt::format("if it writes as when it was last moved: {} rounds, then a pause of {:.0f} ms",
                                  s.rounds.size(), s.downtime_s * 1e3));
  if (s.downtime_s > std::chrono::duration<double>(p.spec.policy.downtime).count())
    p.notices.push_back("the predicted downtime is beyond the budget");
}

// Under an id that no migration has.
void Previewer::name(const MigrationSpec& spec, api::MigrationId* id) const {
  id->set_migration("preview");
  id->set_epoch(driver_.coming_epoch(spec));
}

awaitable<Preview> Previewer::preview(MigrationSpec spec) {
  Preview preview;
  for (const Error& e : driver_.obstacles(spec))
    preview.obstacles.push_back({.where = "coordinator", .reason = reason_of(e)});
  preview.spec = std::move(spec);
  co_await look_at_both_sides(preview);
  co_return preview;
}

awaitable<void> Previewer::look_at_both_sides(Preview& p) {
  const auto& nodes = registry_.nodes();
  const auto up = [&nodes](const std::string& node) { return nodes.contains(node) && nodes.at(node).up; };
  if (!up(p.spec.source)) co_return;
  std::exception_ptr problem;
  try {
    p.surveyed = co_await survey(p.spec);
    if (p.spec.workload.empty()) p.spec.workload = p.surveyed.workload().substr(0, 64);
    p.notices.assign(p.surveyed.notices().begin(), p.surveyed.notices().end());
    for (const std::string& sentence : p.surveyed.refusals())
      p.obstacles.push_back({.where = "source", .reason = {Errc::refused, sentence, {}}});
    p.forecast = forecast(p.spec, p.surveyed.resident_bytes());
    if (const auto error = driver_.hopeless(p.spec))
      p.obstacles.push_back({.where = "coordinator", .reason = reason_of(*error)});
    else if (auto last = last_time(store_, p.spec.workload); last && p.spec.policy.max_rounds > 0)
      simulate_rounds(p, std::move(last->trace), last->rate);
    else if (p.forecast.downtime_ns > p.spec.policy.downtime.count())
      p.notices.push_back("the predicted downtime is beyond the budget");
  } catch (const Error&) {
    problem = std::current_exception();
  }
  if (problem) {
    p.obstacles.push_back({.where = "source", .reason = reason_of(net::to_error(problem))});
    co_return;
  }
  if (p.spec.source == p.spec.destination || !up(p.spec.destination)) co_return;
  try {
    const api::Checked checked = co_await check(p.spec, p.surveyed);
    p.notices.insert(p.notices.end(), checked.notices().begin(), checked.notices().end());
    for (const std::string& sentence : checked.refusals())
      p.obstacles.push_back({.where = "destination", .reason = {Errc::refused, sentence, {}}});
  } catch (const Error&) {
    problem = std::current_exception();
  }
  if (problem) p.obstacles.push_back({.where = "destination", .reason = reason_of(net::to_error(problem))});
}

awaitable<api::Surveyed> Previewer::survey(MigrationSpec spec) {
  const std::shared_ptr<net::Channel> channel = registry_.channel(spec.source);
  api::Envelope request;
  api::Survey& survey = *request.mutable_survey();
  name(spec, survey.mutable_id());
  if (spec.pid)
    survey.set_pid(spec.pid);
  else
    survey.set_workload(spec.workload);
  fill(survey.mutable_options(), spec);
  survey.set_dry_run(true);
  api::Envelope reply = co_await channel->ask(std::move(request), survey_limit);
  if (!reply.has_surveyed()) fail(Errc::protocol, "node '{}' does not answer a survey with one", spec.source);
  co_return std::move(*reply.mutable_surveyed());
}

awaitable<api::Checked> Previewer::check(MigrationSpec spec, api::Surveyed surveyed) {
  const std::shared_ptr<net::Channel> channel = registry_.channel(spec.destination);
  api::Envelope request;
  api::Prepare& prepare = *request.mutable_check()->mutable_prepare();
  name(spec, prepare.mutable_id());
  prepare.set_source_node(spec.source);
  prepare.set_survey(surveyed.engine());
  *prepare.mutable_workload() = surveyed.info();
  fill(prepare.mutable_options(), spec);
  api::Envelope reply = co_await channel->ask(std::move(request), check_limit);
  if (!reply.has_checked()) fail(Errc::protocol, "node '{}' does not answer a check with one", spec.destination);
  co_return std::move(*reply.mutable_checked());
}

Forecast Previewer::forecast(const MigrationSpec& spec, std::uint64_t resident_bytes) const {
  return coordinator::forecast(spec, resident_bytes, store_.migrations(remembered));
}

}  // namespace godwit::coordinator
