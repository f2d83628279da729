// The convergence policy: a pure function of what the rounds measured. No clock, no I/O; every number comes in.
//
// Predicted downtime = overhead of freezing and restoring + dirty bytes / bandwidth. A workload is frozen when that is
// within the budget and more rounds would not make it noticeably smaller: a round costs the workload little, a pause
// much.
//
// The budget is kept: a freeze says how large the last difference may be. A larger one, or one that takes much longer
// than it should, is sent by further rounds, and after a few such attempts that is no progress either. Then it ends, or
// the longer pause is taken, or the workload is given less and less CPU time, so that it writes less; each step has its
// rounds before the next one.
#pragma once

#include "coordinator/migration/migration.h"

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::coordinator {

// Of a former migration: what its pause took beyond the pages, how much these were, and the bytes per second that they
// moved with. A workload's own traffic shares the path in the rounds, not in the pause.
struct SeenPause {
  std::chrono::nanoseconds overhead{0};
  std::uint64_t bytes = 0;
  double path = 0;         // 0: of other nodes, or there was too little to tell
  double rounds_path = 0;  // of the rounds before it
};
// `rounds`: all, the last difference at the end.
SeenPause seen_pause(const std::vector<RoundRecord>& rounds, std::chrono::nanoseconds downtime, bool same_nodes);

struct Measurements {
  std::vector<RoundRecord> rounds;       // pre-copy rounds so far, in order
  std::chrono::nanoseconds elapsed{0};   // since the migration began
  std::chrono::nanoseconds overhead{0};  // of a pause without pages, at least: final dump, restore, commit
  std::vector<SeenPause> pauses;         // former ones, newest first, for a prediction; none: the overhead at least
  std::uint64_t rate_limit = 0;          // bytes per second that the next rounds may take, 0: no limit
  std::uint64_t owed_bytes = 0;          // of a last difference that was too large: the next round sends it
  unsigned over_budget = 0;              // how often that was so, since the last step of throttling
  unsigned too_slow = 0;                 // of these, for the time that it took, whatever its size
  unsigned cpu_percent = 100;            // what the workload may use of the CPU time that it used before
  std::uint64_t resident_bytes = 0;      // of the workload, and the bytes per second that others have seen on
  double expected_rate = 0;              // this path: all there is to go by before the first round; 0: not known
  std::size_t rate_since = 0;            // the first round at the rate of now
  bool rate_fell = false;  // then: less may be sent in a pause than the rounds before that one tell, else only more
  std::size_t throttled_since = 0;  // the first round with so much; how the ones before went says nothing any more
};

enum class Action { another_round = 1, freeze, give_up, throttle };
std::string_view name(Action action);

struct Decision {
  Action action;
  std::chrono::nanoseconds predicted_downtime;  // of a freeze: what is expected; else the most that it would be
  std::string reason;                           // a sentence with the numbers, for the journal and for people
  std::uint64_t most_bytes = 0;  // freeze: the largest last difference that keeps the budget; 0: whatever it is
  unsigned cpu_percent = 100;    // throttle: to this
  std::chrono::nanoseconds attainable{0};  // of giving up: a budget that can be met, by what is known now
  bool refuses = false;                    // giving up: within the probe, before anything else was tried
};

// Gives up as soon as the budget is certain not to be met, by what was measured. Pure.
Decision decide(const Measurements& measured, const PolicyOptions& options);

// Bytes per second that a difference of typical size will see; 0 before anything was measured.
double bandwidth(const std::vector<RoundRecord>& rounds);
double usable_bandwidth(const Measurements& measured);  // and at most what is allowed now

// The bytes that can be sent within the budget; at least one page.
std::uint64_t most_bytes_within(const Measurements& measured, std::chrono::nanoseconds budget);

// At most: as if nothing of what is dirty now went ahead of the freeze.
std::chrono::nanoseconds predict_downtime(const Measurements& measured);
// Of all at once, without a round before; 0: nothing is known to predict it by.
std::chrono::nanoseconds stop_and_copy_downtime(const Measurements& measured);
// At best: after as many rounds as the options allow, each leaving as little as the rounds so far let one hope for.
std::chrono::nanoseconds least_downtime(const Measurements& measured, const PolicyOptions& options);
// The source does send it ahead (Dump::catch_up), again and again as long as that leaves less: the pause moves what is
// written during the last of these rounds.
std::chrono::nanoseconds expect_downtime(const Measurements& measured);

}  // namespace godwit::coordinator
