#include "coordinator/simulation/simulate.h"

#include "coordinator/migration/catching_up.h"

#include <algorithm>

namespace godwit::coordinator {
namespace {

using std::chrono::duration;
using std::chrono::duration_cast;
using std::chrono::nanoseconds;

// Options allow 1000 rounds; more is a policy that never ends.
constexpr std::size_t most_rounds = 2000;
constexpr double longest_s = 1e9;  // nanoseconds hold no more than nine times that

double seconds(nanoseconds t) { return duration<double>(t).count(); }

class Model {
 public:
  Model(const Trace& trace, const Path& path) : trace_(trace), path_(path), to_send_(memory()) {}

  RoundRecord round() {
    const double took = seconds(path_.round_cost) + sending(to_send_);
    const double dirty = cpu_share_ * trace_.dirty_after(now_s_, took);
    const RoundRecord record = sent(took, dirty);
    to_send_ = dirty;
    return record;
  }

  // Everything that was sent on the way counts as one round, as in a report.
  void catch_up(std::vector<RoundRecord>& rounds) {
    if (!CatchingUp::begins(to_send_)) return;
    CatchingUp catching_up;
    RoundRecord all, one;
    do {
      one = round();
      all.pages += one.pages;
      all.bytes += one.bytes;
      all.seconds += one.seconds;
      all.dirty_bytes_after = one.dirty_bytes_after;
    } while (catching_up.goes_on(static_cast<double>(one.bytes), one.seconds));
    rounds.push_back(all);
  }

  RoundRecord pause() {
    RoundRecord record = sent(sending(to_send_), 0);
    record.final = true;
    return record;
  }

  // With less CPU time it writes less: in proportion, at most.
  void throttle(unsigned cpu_percent) { cpu_share_ = cpu_percent / 100.0; }

  double now_s() const { return now_s_; }
  std::uint64_t left() const { return static_cast<std::uint64_t>(to_send_); }

 private:
  double memory() const { return static_cast<double>(trace_.memory_bytes); }
  double sending(double bytes) const { return bytes / path_.bytes_per_s; }

  RoundRecord sent(double took, double dirty) {
    now_s_ += took;
    return {.pages = static_cast<std::uint64_t>(to_send_) / 4096,
            .bytes = static_cast<std::uint64_t>(to_send_),
            .seconds = took,
            .dirty_bytes_after = static_cast<std::uint64_t>(dirty)};
  }

  const Trace& trace_;
  const Path path_;
  double to_send_;
  double now_s_ = 0;
  double cpu_share_ = 1;
};

}  // namespace

Simulation simulate(const Trace& trace, const Path& path, const PolicyOptions& options) {
  Simulation result;
  Model model(trace, path);
  Measurements measured{
      .overhead = path.overhead, .resident_bytes = trace.memory_bytes, .expected_rate = path.bytes_per_s};
  const auto add = [&](RoundRecord round) {
    round.number = static_cast<std::uint32_t>(measured.rounds.size());
    measured.rounds.push_back(round);
    result.rounds.push_back({.round = round, .decision = {}});
  };
  while (measured.rounds.size() < most_rounds) {
    measured.elapsed = duration_cast<nanoseconds>(duration<double>(std::min(model.now_s(), longest_s)));
    result.decision = decide(measured, options);
    // What follows from throttling is no decision of its own.
    if (!result.rounds.empty() && result.rounds.back().decision.action != Action::throttle)
      result.rounds.back().decision = result.decision;
    if (result.decision.action == Action::give_up) break;
    if (result.decision.action == Action::throttle) {
      measured.cpu_percent = result.decision.cpu_percent;
      measured.throttled_since = measured.rounds.size();
      measured.over_budget = 0;
      model.throttle(measured.cpu_percent);
    } else if (result.decision.action == Action::another_round) {
      add(model.round());
      measured.owed_bytes = 0;
    } else {
      if (!measured.rounds.empty()) model.catch_up(result.ending);
      if (result.decision.most_bytes == 0 || model.left() <= result.decision.most_bytes) break;
      // It runs on, and what was sent ahead is one more round.
      for (const RoundRecord& r : result.ending) add(r);
      result.ending.clear();
      measured.owed_bytes = model.left();
      measured.over_budget++;
    }
  }
  result.total_s = model.now_s();
  if (result.decision.action == Action::freeze) {
    result.ending.push_back(model.pause());
    result.downtime_s = seconds(path.overhead) + result.ending.back().seconds;
    result.total_s = model.now_s() + seconds(path.overhead);
  }
  for (const SimulatedRound& r : result.rounds) result.bytes += r.round.bytes;
  for (const RoundRecord& r : result.ending) result.bytes += r.bytes;
  return result;
}

}  // namespace godwit::coordinator
