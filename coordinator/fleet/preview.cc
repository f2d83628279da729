#include "coordinator/fleet/preview.h"

#include "coordinator/migration/hopeless.h"
#include "coordinator/migration/json.h"
#include "coordinator/simulation/simulate.h"

#include <algorithm>
#include <cmath>

namespace godwit::coordinator {
namespace {

using net::awaitable;
using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto survey_limit = 25s;  // both together within what an HTTP client waits for
constexpr auto check_limit = 25s;
constexpr unsigned remembered = 50;

Reason reason_of(const Error& e) { return {e.errc(), e.message(), e.hint()}; }

// How fast it writes is known from the rounds of the last attempt to move it, also of one that was given up. With less
// CPU time it wrote less: that tells nothing.
std::optional<Previewer::Observed> last_time(const Store& store, const std::string& workload) {
  constexpr unsigned most = 5;
  if (workload.empty()) return std::nullopt;
  for (const Migration& m : store.migrations(most, workload)) {
    if (m.rounds.empty() || m.rounds.front().final || m.spec.policy.on_no_progress == OnNoProgress::throttle) continue;
    try {
      return Previewer::Observed{.trace = trace_from_json(to_json(m), "migration " + m.id),
                                 .rate = bandwidth(m.rounds),
                                 .by = "if it writes as when it was last moved"};
    } catch (const Error&) {  // its rounds make no curve
      continue;
    }
  }
  return std::nullopt;
}

// What it writes now. Of a path that nothing was sent over yet all that is known is what it may carry at most.
std::optional<Previewer::Observed> by_probe(const Preview& p) {
  if (p.surveyed.dirty().empty()) return std::nullopt;
  std::vector<DirtyCurve::Point> points;
  for (const api::DirtyPoint& d : p.surveyed.dirty()) {
    if (!std::isfinite(d.seconds())) fail(Errc::protocol, "node '{}' answers a probe without a time", p.spec.source);
    points.push_back({.seconds = d.seconds(), .bytes = static_cast<double>(d.bytes())});
  }
  const auto limit = static_cast<double>(p.spec.rate_limit);
  return Previewer::Observed{
      .trace = {.about = "a probe", .loads = {{.from_s = 0, .dirty = DirtyCurve(std::move(points))}}},
      .rate = p.forecast.rate_known ? 0 : limit,
      .by = "if it goes on writing as by the probe",
      .path_assumed = !p.forecast.rate_known && limit == 0};
}

std::chrono::milliseconds probe_of(const MigrationSpec& spec) {
  return std::chrono::ceil<std::chrono::milliseconds>(spec.policy.probe);
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
  json dirty = json::array();
  for (const api::DirtyPoint& d : p.surveyed.dirty()) dirty.push_back({{"seconds", d.seconds()}, {"bytes", d.bytes()}});
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
          {"dirty", dirty.empty() ? json() : dirty},
          {"predicted", surveyed ? to_json(p.forecast) : json()}};
}

std::optional<Previewer::Observed> Previewer::observed(const Preview& p) const {
  if (p.spec.policy.max_rounds == 0) return std::nullopt;
  std::optional<Observed> last = last_time(store_, p.spec.workload), now = by_probe(p);
  if (!now) return last;
  if (last) {  // over some path that it may take again
    now->rate = std::max(now->rate, last->rate);
    now->path_assumed = false;
  }
  return now;
}

// The policy over what was measured, at the size of today.
void Previewer::simulate_rounds(Preview& p, Observed o) const {
  o.trace.memory_bytes = p.surveyed.resident_bytes();
  double rate = std::max(o.rate, p.forecast.rate);
  if (p.spec.rate_limit > 0) rate = std::min(rate, static_cast<double>(p.spec.rate_limit));
  const Simulation s = simulate(o.trace, {.bytes_per_s = rate}, p.spec.policy);
  const std::string by =
      o.path_assumed ? fmt::format("{}, over a gigabit link, which is assumed", o.by) : std::string(o.by);
  if (s.decision.action == Action::give_up) {
    const Error no = refusal(s.decision);
    const std::string sentence = fmt::format("{}: {}", by, no.message());
    if (o.path_assumed)
      p.notices.push_back(sentence);
    else
      p.obstacles.push_back({.where = "coordinator", .reason = {no.errc(), sentence, no.hint()}});
    return;
  }
  p.notices.push_back(fmt::format("{}: {} rounds, then a pause of {:.0f} ms", by, s.rounds.size(), s.downtime_s * 1e3));
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
    p.surveyed = co_await survey(p.spec, p.obstacles.empty() ? probe_of(p.spec) : 0ms);
    if (p.spec.workload.empty()) p.spec.workload = p.surveyed.workload().substr(0, 64);
    p.notices.assign(p.surveyed.notices().begin(), p.surveyed.notices().end());
    for (const std::string& sentence : p.surveyed.refusals())
      p.obstacles.push_back({.where = "source", .reason = {Errc::refused, sentence, {}}});
    p.forecast = forecast(p.spec, p.surveyed.resident_bytes());
    if (const auto error = driver_.hopeless(p.spec))
      p.obstacles.push_back({.where = "coordinator", .reason = reason_of(*error)});
    else if (auto seen = observed(p))
      simulate_rounds(p, std::move(*seen));
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

awaitable<api::Surveyed> Previewer::survey(MigrationSpec spec, std::chrono::milliseconds probe) {
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
  survey.set_probe_ms(static_cast<std::uint32_t>(probe.count()));
  api::Envelope reply = co_await channel->ask(std::move(request), survey_limit + probe);
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
