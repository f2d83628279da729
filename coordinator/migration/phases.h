// The life of a migration as the coordinator sees it: phases, events, and one table of arrows whose laws the compiler
// checks. Safety does not live here (docs/commit-protocol.md: the agents' records decide); the table says what the
// coordinator does next, and that it never undoes what may already run elsewhere.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string_view>

namespace godwit::coordinator {

// One idempotent step per phase. Names are stored and shown: keep them stable.
enum class Phase {
  queued = 1,
  surveying,     // Survey -> source
  preparing,     // Prepare -> destination
  connecting,    // Connect -> source
  precopy,       // Round k -> source, until the policy says freeze
  freezing,      // Freeze -> source; from here the workload stands still
  finishing,     // Finish -> destination
  arming,        // Arm -> source; from here only the destination's record counts
  committing,    // Commit -> destination
  killing,       // KillSource -> source; the destination has resumed: the point of no return is behind
  rolling_back,  // Abort -> source, Discard -> destination
  asking,        // the records of both sides are read until they tell the outcome
  done,
  rolled_back,
  undecided,  // the records could not be read in time; asked again after a while, and when a node returns
};

enum class Event {
  ok = 1,
  another_round,
  over_budget,       // the last difference was too large: the workload runs on
  fault,             // the step failed, or its answer did not come
  source_armed,      // an Abort came too late: the source waits for the destination's word
  source_not_armed,  // the source may still thaw on its own word
  still_prepared,    // armed and prepared: the commit was lost and can be sent again
  source_thawed,
  destination_resumed,
  source_killed,
  source_lost,  // its copy died while it was held: the destination's counts, if there is one
  both_gone,
  out_of_patience,
  node_returned,
  rehearsed,  // the destination is prepared, and that was all that was asked for
};

struct Arrow {
  Phase from;
  Event event;
  Phase to;
};

inline constexpr std::array arrows{
    Arrow{Phase::queued, Event::ok, Phase::surveying},
    Arrow{Phase::surveying, Event::ok, Phase::preparing},
    Arrow{Phase::preparing, Event::ok, Phase::connecting},
    Arrow{Phase::connecting, Event::ok, Phase::precopy},
    Arrow{Phase::precopy, Event::another_round, Phase::precopy},
    Arrow{Phase::precopy, Event::ok, Phase::freezing},
    Arrow{Phase::freezing, Event::ok, Phase::finishing},
    Arrow{Phase::freezing, Event::over_budget, Phase::precopy},
    Arrow{Phase::finishing, Event::ok, Phase::arming},
    Arrow{Phase::arming, Event::ok, Phase::committing},
    Arrow{Phase::committing, Event::ok, Phase::killing},
    Arrow{Phase::killing, Event::ok, Phase::done},
    Arrow{Phase::killing, Event::out_of_patience, Phase::done},  // the source asks the destination by itself

    Arrow{Phase::queued, Event::fault, Phase::rolling_back},
    Arrow{Phase::surveying, Event::fault, Phase::rolling_back},
    Arrow{Phase::preparing, Event::fault, Phase::rolling_back},
    Arrow{Phase::connecting, Event::fault, Phase::rolling_back},
    Arrow{Phase::precopy, Event::fault, Phase::rolling_back},
    Arrow{Phase::freezing, Event::fault, Phase::rolling_back},
    Arrow{Phase::finishing, Event::fault, Phase::rolling_back},
    Arrow{Phase::arming, Event::fault, Phase::asking},
    Arrow{Phase::committing, Event::fault, Phase::asking},

    Arrow{Phase::finishing, Event::rehearsed, Phase::rolling_back},

    Arrow{Phase::rolling_back, Event::ok, Phase::rolled_back},
    Arrow{Phase::rolling_back, Event::source_armed, Phase::asking},
    Arrow{Phase::rolling_back, Event::source_killed, Phase::done},
    Arrow{Phase::rolling_back, Event::source_lost, Phase::asking},
    Arrow{Phase::rolling_back, Event::out_of_patience, Phase::undecided},

    Arrow{Phase::asking, Event::source_not_armed, Phase::rolling_back},
    Arrow{Phase::asking, Event::still_prepared, Phase::arming},  // arming again answers with the same token
    Arrow{Phase::asking, Event::source_thawed, Phase::rolled_back},
    Arrow{Phase::asking, Event::destination_resumed, Phase::killing},
    Arrow{Phase::asking, Event::source_killed, Phase::done},
    Arrow{Phase::asking, Event::both_gone, Phase::rolled_back},
    Arrow{Phase::asking, Event::out_of_patience, Phase::undecided},

    Arrow{Phase::undecided, Event::node_returned, Phase::asking},
};

// Where `event` leads from `from`; nothing when it has no meaning there.
constexpr std::optional<Phase> next(Phase from, Event event) {
  for (const Arrow& a : arrows)
    if (a.from == from && a.event == event) return a.to;
  return std::nullopt;
}

constexpr bool terminal(Phase phase) { return phase == Phase::done || phase == Phase::rolled_back; }

// The run has ended: an operator is told the outcome, or that it is unknown as yet.
constexpr bool settled(Phase phase) { return terminal(phase) || phase == Phase::undecided; }

struct NamedPhase {
  Phase phase;
  std::string_view name;
};
inline constexpr std::array phase_names{
    NamedPhase{Phase::queued, "queued"},
    NamedPhase{Phase::surveying, "surveying"},
    NamedPhase{Phase::preparing, "preparing"},
    NamedPhase{Phase::connecting, "connecting"},
    NamedPhase{Phase::precopy, "precopy"},
    NamedPhase{Phase::freezing, "freezing"},
    NamedPhase{Phase::finishing, "finishing"},
    NamedPhase{Phase::arming, "arming"},
    NamedPhase{Phase::committing, "committing"},
    NamedPhase{Phase::killing, "killing"},
    NamedPhase{Phase::rolling_back, "rolling_back"},
    NamedPhase{Phase::asking, "asking"},
    NamedPhase{Phase::done, "done"},
    NamedPhase{Phase::rolled_back, "rolled_back"},
    NamedPhase{Phase::undecided, "undecided"},
};

constexpr std::string_view name(Phase phase) {
  for (const NamedPhase& n : phase_names)
    if (n.phase == phase) return n.name;
  return "unknown";
}

constexpr std::optional<Phase> phase_from_name(std::string_view text) {
  for (const NamedPhase& n : phase_names)
    if (n.name == text) return n.phase;
  return std::nullopt;
}

namespace laws {

constexpr bool reaches(Phase from, Phase to) {
  std::array<bool, phase_names.size() + 1> seen{};
  seen[static_cast<std::size_t>(from)] = true;
  for (std::size_t pass = 0; pass < phase_names.size(); pass++)
    for (const Arrow& a : arrows)
      if (seen[static_cast<std::size_t>(a.from)]) seen[static_cast<std::size_t>(a.to)] = true;
  return seen[static_cast<std::size_t>(to)];
}

constexpr bool one_arrow_per_event() {
  for (std::size_t i = 0; i < arrows.size(); i++)
    for (std::size_t k = i + 1; k < arrows.size(); k++)
      if (arrows[i].from == arrows[k].from && arrows[i].event == arrows[k].event) return false;
  return true;
}

constexpr bool terminal_phases_are_final() {
  for (const Arrow& a : arrows)
    if (terminal(a.from)) return false;
  return true;
}

constexpr bool every_phase_is_reached_and_can_end() {
  for (const NamedPhase& n : phase_names)
    if (!reaches(Phase::queued, n.phase) || (!reaches(n.phase, Phase::done) && !reaches(n.phase, Phase::rolled_back)))
      return false;
  return true;
}

constexpr bool a_fault_before_arming_rolls_back() {
  for (Phase p = Phase::queued; p < Phase::arming; p = static_cast<Phase>(static_cast<int>(p) + 1))
    if (next(p, Event::fault) != Phase::rolling_back) return false;
  return true;
}

static_assert(one_arrow_per_event());
static_assert(terminal_phases_are_final());
static_assert(every_phase_is_reached_and_can_end());
static_assert(a_fault_before_arming_rolls_back(), "until the source is armed it may always thaw");
constexpr bool it_runs_on_only_before_anything_is_built_on_the_freeze() {
  for (const NamedPhase& n : phase_names)
    if (n.phase != Phase::freezing && next(n.phase, Event::over_budget)) return false;
  return true;
}

static_assert(it_runs_on_only_before_anything_is_built_on_the_freeze());
static_assert(next(Phase::arming, Event::fault) == Phase::asking, "an armed source is never undone on a guess");
static_assert(next(Phase::committing, Event::fault) == Phase::asking, "a commit without an answer may have happened");
static_assert(!reaches(Phase::killing, Phase::rolling_back) && !reaches(Phase::killing, Phase::rolled_back),
              "a migration whose destination has resumed is never undone");
constexpr bool a_rehearsal_ends_before_arming() {
  for (const Arrow& a : arrows)
    if (a.event == Event::rehearsed && (a.from >= Phase::arming || a.to != Phase::rolling_back)) return false;
  return true;
}
static_assert(a_rehearsal_ends_before_arming(), "what was rehearsed is never let run");
static_assert(!next(Phase::asking, Event::fault), "no failure to read a record decides anything");

}  // namespace laws
}  // namespace godwit::coordinator
