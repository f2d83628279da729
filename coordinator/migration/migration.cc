#include "coordinator/migration/migration.h"

#include <algorithm>
#include <array>

namespace godwit::coordinator {
namespace {

struct NamedOutcome {
  Outcome outcome;
  std::string_view name;
};
constexpr std::array outcome_names{NamedOutcome{Outcome::done, "done"},
                                   NamedOutcome{Outcome::rolled_back, "rolled_back"},
                                   NamedOutcome{Outcome::refused, "refused"}, NamedOutcome{Outcome::unknown, "unknown"},
                                   NamedOutcome{Outcome::rehearsed, "rehearsed"}};

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

// Between two exchanges; one of them may not have happened here, when a coordinator took over.
std::int64_t turn(std::int64_t answered_ns, std::int64_t asked_ns) {
  return answered_ns > 0 && asked_ns > answered_ns ? asked_ns - answered_ns : 0;
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

std::string subject_of(const MigrationSpec& spec) {
  return spec.pid ? fmt::format("{}@{}", spec.pid, spec.source) : spec.workload;
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

// What an agent spends beside its steps is not on its way: it stays unexplained.
std::int64_t Exchange::transit() const {
  return std::max<std::int64_t>(0, answered_ns - asked_ns - std::max(took_ns, sum(steps)));
}

std::vector<StepRecord> split_pause(const PauseTimes& t) {
  std::vector<StepRecord> steps;
  append(steps, t.freeze.steps, "source");
  append(steps, t.finish.steps, "destination");
  append(steps, t.arm.steps, "source");
  append(steps, t.commit.steps, "destination");
  const std::int64_t between = t.finish.transit() + t.arm.transit() + t.commit.transit();
  const std::int64_t turns = turn(t.freeze.answered_ns, t.finish.asked_ns) +
                             turn(t.finish.answered_ns, t.arm.asked_ns) + turn(t.arm.answered_ns, t.commit.asked_ns) +
                             turn(t.commit.answered_ns, t.kill.asked_ns);
  const std::int64_t rest = t.downtime_ns - sum(steps) - between - turns;
  const std::int64_t at_the_ends = std::clamp<std::int64_t>(rest, 0, t.freeze.transit() + t.kill.transit());
  append(steps, {{"transit", between + at_the_ends}}, "messages");
  append(steps, {{"coordinator", turns}}, "between");
  append(steps, {{"unexplained", t.downtime_ns - sum(steps)}}, "whole");
  return steps;
}

}  // namespace godwit::coordinator
