#include "coordinator/cli/simulate.h"

#include "common/base/units.h"
#include "coordinator/cli/exit_codes.h"
#include "coordinator/cli/migrate.h"
#include "coordinator/cli/report.h"
#include "coordinator/cli/table.h"
#include "coordinator/migration/json.h"

#include <algorithm>
#include <cstdio>

namespace godwit::cli {
namespace {

using coordinator::PolicyOptions;
using coordinator::RoundRecord;
using coordinator::Simulation;
using coordinator::Trace;
using nlohmann::json;

double to_ms(std::chrono::nanoseconds t) { return std::chrono::duration<double, std::milli>(t).count(); }

std::string rate_of(double bytes, double seconds) {
  return seconds > 0 ? human_bytes(static_cast<std::uint64_t>(bytes / seconds)) + "/s" : "-";
}

std::string words(coordinator::Action action) {
  std::string text(coordinator::name(action));
  std::ranges::replace(text, '_', ' ');
  return text;
}

std::string rounds_table(const Simulation& s) {
  Table table(
      {{"round", true}, {"sent", true}, {"duration", true}, {"rate", true}, {"dirty after", true}, {"decision"}});
  const auto add = [&](std::string name, const RoundRecord& r, std::string decision) {
    table.add({std::move(name), human_bytes(r.bytes), human_duration(r.seconds * 1e3),
               rate_of(static_cast<double>(r.bytes), r.seconds), r.final ? "" : human_bytes(r.dirty_bytes_after),
               std::move(decision)});
  };
  for (const auto& [round, decision] : s.rounds)
    add(std::to_string(round.number), round, words(decision.action) + ": " + decision.reason);
  for (const RoundRecord& r : s.ending) add(r.final ? "final" : "ahead", r, "");
  return table.text("  ");
}

std::string ending(const Simulation& s, const PolicyOptions& options) {
  const std::string totals = fmt::format("{} in all, {} sent", human_duration(s.total_s * 1e3), human_bytes(s.bytes));
  if (s.decision.action != coordinator::Action::freeze)
    return fmt::format("does not freeze: {}\n{}\n", s.decision.reason, totals);
  return fmt::format("predicted downtime {}, simulated {}, budget {}; {}\n",
                     human_duration(to_ms(s.decision.predicted_downtime)), human_duration(s.downtime_s * 1e3),
                     human_duration(to_ms(options.downtime)), totals);
}

json path_json(const SimulatedPath& path) {
  const Simulation& s = path.simulation;
  json rounds = json::array();
  for (const auto& [round, decision] : s.rounds) {
    json one = coordinator::to_json(round);
    one["decision"] = coordinator::name(decision.action);
    one["predicted_downtime_ms"] = to_ms(decision.predicted_downtime);
    one["reason"] = decision.reason;
    rounds.push_back(std::move(one));
  }
  json last = json::array();
  for (const RoundRecord& r : s.ending) last.push_back(coordinator::to_json(r));
  const bool froze = s.decision.action == coordinator::Action::freeze;
  return {{"bytes_per_s", path.bytes_per_s},
          {"rounds", rounds},
          {"ending", last},
          {"decision", coordinator::name(s.decision.action)},
          {"reason", s.decision.reason},
          {"predicted_downtime_ms", to_ms(s.decision.predicted_downtime)},
          {"downtime_ms", froze ? json(s.downtime_s * 1e3) : json()},
          {"total_s", s.total_s},
          {"bytes", s.bytes}};
}

}  // namespace

std::string simulation_report(const Trace& trace, const PolicyOptions& options,
                              const std::vector<SimulatedPath>& paths) {
  std::string out = fmt::format("{}; {} of memory\n", trace.about.empty() ? "a trace" : printable(trace.about),
                                human_bytes(trace.memory_bytes));
  for (const SimulatedPath& path : paths) {
    out += fmt::format("\nover {} ({:.4g} Mbit/s)\n\n", rate_of(path.bytes_per_s, 1), path.bytes_per_s * 8 / 1e6);
    out += rounds_table(path.simulation) + "\n" + ending(path.simulation, options);
  }
  return out;
}

json simulation_json(const Trace& trace, const PolicyOptions& options, const std::vector<SimulatedPath>& paths) {
  json list = json::array();
  for (const SimulatedPath& path : paths) list.push_back(path_json(path));
  return {{"about", trace.about},
          {"memory_bytes", trace.memory_bytes},
          {"downtime_budget_ms", to_ms(options.downtime)},
          {"simulations", list}};
}

int simulate(const SimulateCommand& command, bool json_output) {
  Trace trace = coordinator::read_trace(command.trace);
  if (command.size) trace.memory_bytes = *command.size;
  PolicyOptions options;
  std::uint64_t rate_limit = 0;
  json given = policy_request(command.policy);
  if (command.policy.policy) {
    const coordinator::Policies known =
        command.config.empty() ? coordinator::Policies{} : coordinator::read_policies(command.config);
    const coordinator::Policy& policy = coordinator::policy_named(known, *command.policy.policy);
    options = policy.options;
    rate_limit = policy.rate_limit;
    given.erase("policy");
  }
  coordinator::JsonReader in(given, "policy");
  coordinator::read_policy(in, options, rate_limit);

  std::vector<SimulatedPath> paths;
  bool refused = false;
  for (double bytes_per_s : command.bandwidths) {
    if (rate_limit > 0) bytes_per_s = std::min(bytes_per_s, static_cast<double>(rate_limit));
    paths.push_back(
        {.bytes_per_s = bytes_per_s,
         .simulation = coordinator::simulate(
             trace, {.bytes_per_s = bytes_per_s, .overhead = command.overhead, .round_cost = command.round_cost},
             options)});
    refused |= paths.back().simulation.decision.action != coordinator::Action::freeze;
  }
  const std::string text =
      json_output ? simulation_json(trace, options, paths).dump(2, ' ', false, json::error_handler_t::replace) + "\n"
                  : simulation_report(trace, options, paths);
  std::fputs(text.c_str(), stdout);
  return refused ? exit_refused : exit_done;
}

}  // namespace godwit::cli
