// The convergence policy: a pure function of what the rounds measured. No clock, no I/O; every number comes in.
//
// Predicted downtime = overhead of freezing and restoring + dirty bytes / bandwidth. A workload is frozen when that is
// within the budget and more rounds would not make it noticeably smaller: a round costs the workload little, a pause
// much.
#pragma once

#include "coordinator/migration/migration.h"

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::coordinator {

struct Measurements {
  std::vector<RoundRecord> rounds;             // pre-copy rounds so far, in order
  std::chrono::nanoseconds elapsed{0};         // since the migration began
  std::chrono::nanoseconds overhead{0};        // of a pause without pages, at least: final dump, restore, commit
  std::chrono::nanoseconds usual_overhead{0};  // what it mostly is, for a prediction; 0: the same
};

enum class Action { another_round = 1, freeze, give_up };
std::string_view name(Action action);

struct Decision {
  Action action;
  std::chrono::nanoseconds predicted_downtime;  // of a freeze: what is expected; else the most that it would be
  std::string reason;                           // a sentence with the numbers, for the journal and for people
  std::chrono::nanoseconds attainable{0};       // of giving up: a budget that can be met, by what is known now
};

// Gives up as soon as the budget is certain not to be met, by what was measured. Pure.
Decision decide(const Measurements& measured, const PolicyOptions& options);

// Bytes per second that a difference of typical size will see; 0 before anything was measured.
double bandwidth(const std::vector<RoundRecord>& rounds);

// At most: as if nothing of what is dirty now went ahead of the freeze.
std::chrono::nanoseconds predict_downtime(const Measurements& measured);
// At best: after as many rounds as the options allow, each leaving as little as the rounds so far let one hope for.
std::chrono::nanoseconds least_downtime(const Measurements& measured, const PolicyOptions& options);
// The source does send it ahead (Dump::catch_up), again and again as long as that leaves less: the pause moves what is
// written during the last of these rounds.
std::chrono::nanoseconds expect_downtime(const Measurements& measured);

}  // namespace godwit::coordinator
