// The two state machines of the commit protocol (docs/commit-protocol.md) as tables, with their laws.
//
// A phase is written to disk before the action that it announces. The numbers are those of
// common/api/control.proto and of the record file: never change one.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace godwit::service {

enum class SourcePhase : std::uint8_t { none = 1, frozen, armed, aborted, thawed, killing, killed, lost };
enum class DestinationPhase : std::uint8_t { none = 1, building, prepared, refused, committed, resumed, lost };

template <class Phase>
struct Arrow {
  Phase from;
  Phase to;
};

inline constexpr std::array source_arrows{
    Arrow{SourcePhase::none, SourcePhase::frozen},
    Arrow{SourcePhase::none, SourcePhase::thawed},  // it ended before it froze anything; never begun, a tombstone
    Arrow{SourcePhase::frozen, SourcePhase::armed},
    Arrow{SourcePhase::frozen, SourcePhase::aborted},
    Arrow{SourcePhase::frozen, SourcePhase::lost},  // the held copy has died, by itself or with its node
    Arrow{SourcePhase::armed, SourcePhase::aborted},
    Arrow{SourcePhase::aborted, SourcePhase::thawed},
    Arrow{SourcePhase::armed, SourcePhase::killing},
    Arrow{SourcePhase::killing, SourcePhase::killed},
    Arrow{SourcePhase::armed, SourcePhase::lost},
};

inline constexpr std::array destination_arrows{
    Arrow{DestinationPhase::none, DestinationPhase::building},
    Arrow{DestinationPhase::none, DestinationPhase::refused},  // a refusal for an unknown id: a tombstone
    Arrow{DestinationPhase::building, DestinationPhase::prepared},
    Arrow{DestinationPhase::building, DestinationPhase::refused},
    Arrow{DestinationPhase::prepared, DestinationPhase::refused},
    Arrow{DestinationPhase::prepared, DestinationPhase::committed},
    Arrow{DestinationPhase::committed, DestinationPhase::resumed},
    Arrow{DestinationPhase::committed, DestinationPhase::lost},
};

constexpr auto arrows(SourcePhase) { return std::span(source_arrows); }
constexpr auto arrows(DestinationPhase) { return std::span(destination_arrows); }

template <class Phase>
constexpr bool allowed(Phase from, Phase to) {
  for (const auto& a : arrows(from)) {
    if (a.from == from && a.to == to) return true;
  }
  return false;
}

// By any path of at least one arrow. The tables have no cycles, so the recursion ends.
template <class Phase>
constexpr bool reachable(Phase from, Phase to) {
  for (const auto& a : arrows(from)) {
    if (a.from == from && (a.to == to || reachable(a.to, to))) return true;
  }
  return false;
}

template <class Phase>
constexpr bool final(Phase p) {
  for (const auto& a : arrows(p)) {
    if (a.from == p) return false;
  }
  return true;
}

// Every way from `from` to `to` goes through `through`.
template <class Phase>
constexpr bool only_through(Phase from, Phase through, Phase to) {
  if (from == through) return true;
  for (const auto& a : arrows(from)) {
    if (a.from == from && a.to != through && (a.to == to || !only_through(a.to, through, to))) return false;
  }
  return true;
}

static_assert(!reachable(SourcePhase::killing, SourcePhase::thawed), "a copy that is being killed never runs again");
static_assert(!reachable(SourcePhase::aborted, SourcePhase::killing), "a copy that was let go is never killed");
static_assert(only_through(SourcePhase::none, SourcePhase::armed, SourcePhase::killed), "kill only after arm");
static_assert(only_through(SourcePhase::none, SourcePhase::killing, SourcePhase::killed), "announce the kill");
static_assert(only_through(SourcePhase::frozen, SourcePhase::aborted, SourcePhase::thawed), "announce the thaw");
static_assert(only_through(SourcePhase::none, SourcePhase::frozen, SourcePhase::lost),
              "only the loss of a copy that is held is a permission to commit");
static_assert(!allowed(SourcePhase::aborted, SourcePhase::lost), "a copy that was let go is lost to nobody else");
static_assert(final(SourcePhase::thawed) && final(SourcePhase::killed) && final(SourcePhase::lost));

static_assert(!reachable(DestinationPhase::committed, DestinationPhase::refused), "a commit cannot be taken back");
static_assert(!reachable(DestinationPhase::refused, DestinationPhase::committed), "a refusal cannot be taken back");
static_assert(!reachable(DestinationPhase::resumed, DestinationPhase::lost), "a resumed workload is not undone");
static_assert(only_through(DestinationPhase::none, DestinationPhase::prepared, DestinationPhase::committed));
static_assert(only_through(DestinationPhase::none, DestinationPhase::committed, DestinationPhase::resumed));
static_assert(final(DestinationPhase::refused) && final(DestinationPhase::resumed) && final(DestinationPhase::lost));

constexpr std::string_view name(SourcePhase p) {
  switch (p) {
    case SourcePhase::none: return "none";
    case SourcePhase::frozen: return "frozen";
    case SourcePhase::armed: return "armed";
    case SourcePhase::aborted: return "aborted";
    case SourcePhase::thawed: return "thawed";
    case SourcePhase::killing: return "killing";
    case SourcePhase::killed: return "killed";
    case SourcePhase::lost: return "lost";
  }
  return "invalid";
}

constexpr std::string_view name(DestinationPhase p) {
  switch (p) {
    case DestinationPhase::none: return "none";
    case DestinationPhase::building: return "building";
    case DestinationPhase::prepared: return "prepared";
    case DestinationPhase::refused: return "refused";
    case DestinationPhase::committed: return "committed";
    case DestinationPhase::resumed: return "resumed";
    case DestinationPhase::lost: return "lost";
  }
  return "invalid";
}

}  // namespace godwit::service
