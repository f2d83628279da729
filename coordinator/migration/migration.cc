#include "coordinator/migration/migration.h"

#include <algorithm>
#include <array>

namespace godwit::coordinator {
namespace {

struct NamedOutcome {
  Outcome outcome;
  std::string_view name;
};
constexpr std::array outcome_names{
    NamedOutcome{Outcome::done, "done"}, NamedOutcome{Outcome::rolled_back, "rolled_back"},
    NamedOutcome{Outcome::refused, "refused"}, NamedOutcome{Outcome::unknown, "unknown"}};

// Two sides may use the same word for a step; in one table it must say whose it is.
void append(std::vector<StepRecord>& to, const std::vector<StepRecord>& from, std::string_view side) {
  for (const StepRecord& step : from) {
    const auto same = [&](const StepRecord& s) { return s.name == step.name; };
    StepRecord named = step;
    if (std::ranges::any_of(to, same)) named.name = std::string(side) + "_" + step.name;
    if (const auto it = std::ranges::find(to, named.name, &StepRecord::name); it != to.end())
      it->nanoseconds += named.nanoseconds;
    else
      to.push_back(std::move(named));
  }
}

std::int64_t sum(const std::vector<StepRecord>& steps) {
  std::int64_t total = 0;
  for (const StepRecord& s : steps) total += s.nanoseconds;
  return total;
}

}  // namespace

std::string_view name(Outcome outcome) {
  for (const NamedOutcome& n : outcome_names)
    if (n.outcome == outcome) return n.name;
  return "unknown";
}

std::optional<Outcome> outcome_from_name(std::string_view text) {
  for (const NamedOutcome& n : outcome_names)
    if (n.name == text) return n.outcome;
  return std::nullopt;
}

std::uint64_t total_bytes(const Migration& migration) {
  std::uint64_t bytes = 0;
  for (const RoundRecord& r : migration.rounds) bytes += r.bytes;
  return bytes;
}

double transfer_rate(const Migration& migration) {
  double seconds = 0;
  for (const RoundRecord& r : migration.rounds) seconds += r.seconds;
  return seconds > 0 ? static_cast<double>(total_bytes(migration)) / seconds : 0;
}

std::vector<StepRecord> split_pause(const PauseTimes& t) {
  std::vector<StepRecord> steps;
  append(steps, t.frozen, "source");
  append(steps, t.finished, "destination");
  append(steps, {{"arm", t.arm_ns}}, "source");
  append(steps, t.resumed, "resume");
  const std::int64_t transit = std::max<std::int64_t>(0, t.finish_ns - sum(t.finished)) +
                               std::max<std::int64_t>(0, t.commit_ns - sum(t.resumed));
  append(steps, {{"transit", transit}}, "messages");
  append(steps, {{"unexplained", t.downtime_ns - sum(steps)}}, "whole");
  return steps;
}

}  // namespace godwit::coordinator
