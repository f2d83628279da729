// What is known of one migration: what was asked for, how far it is, and what was measured. Plain values, one thread.
// Times are nanoseconds of somebody's monotonic clock unless the name says unix; two hosts' clocks are never
// subtracted.
#pragma once

#include "common/base/error.h"
#include "coordinator/migration/phases.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::coordinator {

enum class OnNoProgress { force = 1, abort, throttle };
// Whether the source's copy goes on when the destination's was lost after it may have run. `automatic`: not when it may
// write files that both nodes share.
enum class IfLost { automatic = 1, thaw, hold };

struct PolicyOptions {
  std::chrono::nanoseconds downtime = std::chrono::milliseconds(300);  // the budget
  unsigned max_rounds = 30;                                            // 0: stop and copy, whatever the budget says
  std::chrono::nanoseconds max_total_time{0};                          // 0: none
  OnNoProgress on_no_progress = OnNoProgress::abort;
  // Of the CPU time that the workload used before, in percent, falling. With less than the last step it hardly lives.
  std::vector<unsigned> throttle_steps{80, 60, 40, 20};
  IfLost if_lost = IfLost::automatic;
  // A budget that measurements of this length say cannot be met refuses the migration, whatever `on_no_progress` is:
  // its first rounds, or of a preview a probe. 0: none.
  std::chrono::nanoseconds probe{0};
};

inline constexpr std::uint64_t most_rate_limit = std::uint64_t{1} << 50;

struct MigrationSpec {
  std::string workload;  // by name, or
  std::int32_t pid = 0;  // by host PID, which needs `source`
  std::string source;
  std::string destination;
  bool tcp_close = false;
  std::uint64_t spool_limit = 32u << 20;  // more would be out of the caches when it is read
  std::uint32_t streams = 2;              // one TLS stream keeps one core busy at each end
  std::uint64_t rate_limit = 0;           // bytes per second, 0: none
  std::vector<std::string> assume_shared;
  std::string policy_name;  // the named policy that the values come from, or empty
  bool rehearse = false;    // all the way to a held copy at the destination, which is then discarded
  PolicyOptions policy;
};

struct RoundRecord {
  std::uint32_t number = 0;
  std::uint64_t pages = 0;
  std::uint64_t zero_pages = 0;
  std::uint64_t bytes = 0;
  double seconds = 0;
  std::uint64_t dirty_bytes_after = 0;
  bool final = false;  // sent while frozen
};

struct StepRecord {
  std::string name;
  std::int64_t nanoseconds = 0;
};

// What an operator is told; exit codes hang on it.
enum class Outcome { done = 1, rolled_back, refused, unknown, rehearsed };
std::string_view name(Outcome outcome);
std::optional<Outcome> outcome_from_name(std::string_view text);

// What an operator says when the outcome is in doubt.
enum class Statement {
  destination_is_off = 1,  // to a source that is armed
  go_on,                   // the destination has lost a copy that may have run, and the source's may go on all the same
  source_is_off,           // to a destination that is prepared
};

struct Reason {
  Errc code = Errc::internal;
  std::string message;
  std::string hint;
};

struct Migration {
  std::string id;
  std::uint64_t epoch = 0;
  MigrationSpec spec;
  Phase phase = Phase::queued;
  std::optional<Outcome> outcome;
  std::optional<Reason> reason;  // why it was not done
  std::int64_t created_unix_ms = 0;
  std::int64_t finished_unix_ms = 0;
  double total_s = 0;
  std::int64_t predicted_downtime_ns = 0;
  std::int64_t downtime_ns = 0;  // 0: not measured; of a rehearsal: what it would have been
  std::vector<RoundRecord> rounds;
  std::vector<std::string> notices;  // what an operator should know of it
  std::vector<StepRecord> steps;     // add up to downtime_ns, `transit` and `unexplained` among them
};

// What epochs are counted for: a workload, or a process that was named by its PID.
std::string subject_of(const MigrationSpec& spec);

std::uint64_t total_bytes(const Migration& migration);
double transfer_rate(const Migration& migration);  // bytes per second while rounds were running

// A duration that a peer says, made one that can be added up: a day at most.
constexpr std::int64_t believable(std::uint64_t nanoseconds) {
  constexpr std::uint64_t day = 86'400'000'000'000;
  return static_cast<std::int64_t>(nanoseconds < day ? nanoseconds : day);
}

// What one request cost: on the coordinator's clock from asking to the answer, and what the agent says of it.
struct Exchange {
  std::int64_t asked_ns = 0, answered_ns = 0;
  std::int64_t took_ns = 0;  // all of it at the agent, by its own clock; 0: it does not say
  std::vector<StepRecord> steps;

  std::int64_t transit() const;  // the two messages: beyond what it took at the agent
};

// Splits the pause: the source's and the destination's own durations, what the messages between took (`transit`), what
// the coordinator took from an answer to the next request (`coordinator`), and what nobody accounts for
// (`unexplained`), so that the values add up to `downtime_ns`. The downtime begins at the first stop and ends when the
// source is told to kill its copy, so the answer to the freeze and that order belong to it; no one clock sees both ends
// of these two, so they are given what is left over, at most what the messages of the freeze and of the kill took.
struct PauseTimes {
  std::int64_t downtime_ns = 0;
  Exchange freeze, finish, arm, commit, kill;
};
std::vector<StepRecord> split_pause(const PauseTimes& times);

}  // namespace godwit::coordinator
