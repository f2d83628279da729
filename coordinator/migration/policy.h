// The convergence policy: a pure function of what the rounds measured. No clock, no I/O; every number comes in.
//
// Predicted downtime = overhead of freezing and restoring + dirty bytes / bandwidth. A workload is frozen when that is
// within the budget and more rounds would not make it noticeably smaller: a round costs the workload little, a pause
// much.
#pragma once

#include "coordinator/migration/migration.h"

#include <chrono>
#include <string>
#include <vector>

namespace godwit::coordinator {

struct Measurements {
  std::vector<RoundRecord> rounds;       // pre-copy rounds so far, in order
  std::chrono::nanoseconds elapsed{0};   // since the migration began
  std::chrono::nanoseconds overhead{0};  // of a pause without pages: final dump, restore, commit
};

enum class Action { another_round = 1, freeze, give_up };

struct Decision {
  Action action;
  std::chrono::nanoseconds predicted_downtime;  // of a freeze: what is expected; else the most that it would be
  std::string reason;  // a sentence with the numbers, for the journal and for people
};

Decision decide(const Measurements& measured, const PolicyOptions& options);

// Bytes per second that a difference of typical size will see; 0 before anything was measured.
double bandwidth(const std::vector<RoundRecord>& rounds);

// At most: as if nothing of what is dirty now went ahead of the freeze.
std::chrono::nanoseconds predict_downtime(const Measurements& measured);
// The source does send it ahead (Dump::catch_up): the pause moves what is written meanwhile, at the last round's rate.
std::chrono::nanoseconds expect_downtime(const Measurements& measured);

}  // namespace godwit::coordinator
