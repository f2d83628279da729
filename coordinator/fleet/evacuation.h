// Emptying one node: every workload that lives there moves to where it fits, a few at a time.
//
// The plan lives in memory. A coordinator that dies leaves the migrations under way to the commit protocol, and the
// node cordoned; a second evacuation does the rest. Nothing here is about safety.
#pragma once

#include "coordinator/fleet/placement.h"
#include "coordinator/fleet/preview.h"
#include "coordinator/service/agents.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace godwit::coordinator {

struct EvacuationRequest {
  std::string node;
  std::vector<std::string> to;  // empty: any
  unsigned parallel = 1;        // migrations at once: each has the path to itself
  MigrationSpec options;        // of every migration; source, destination and workload are filled in
  std::string by;               // the operator's name
};

enum class MoveState {
  waiting = 1,
  moving,
  moved,
  failed,   // tried, and it runs on at the node
  stays,    // not tried: the reason says why
  unknown,  // its migration's outcome is not known yet
};
std::string_view name(MoveState state);

struct Move {
  std::string workload;
  MoveState state = MoveState::waiting;
  std::string to;
  std::string migration;  // id, once there is one
  api::Surveyed surveyed;
  Forecast forecast;
  std::map<std::string, std::string> refused_by;  // destinations that are out of the question, and why
  std::optional<Reason> reason;                   // why it has not moved, or not yet
  std::int64_t downtime_ns = 0;
  double total_s = 0;
  std::uint64_t bytes = 0;
};

// By workload: memory that does not show in what the node says of itself, because it is not used there yet.
using Promised = std::map<std::string, std::uint64_t>;

class Evacuations;

class Evacuation {
 public:
  Evacuation(Registry& registry, Driver& driver, Store& store, AgentService& agents, const Evacuations& all,
             EvacuationRequest request);

  net::awaitable<void> plan();   // looks at every workload that is not planned yet, and places it
  net::awaitable<void> drive();  // of a cordoned node: plans, moves; returns when it has ended. Once.

  // None begins any more, and those that can still be rolled back are.
  void cancel(const std::string& by);

  bool ended() const { return phase_ == Phase::ended; }
  nlohmann::json report() const;
  Promised promised_to(const std::string& node) const;

 private:
  enum class Phase { planning = 1, moving, ended };

  net::awaitable<void> move_all();
  net::awaitable<void> look();
  bool may_wait_for(const std::string& starting);
  net::awaitable<void> survey(std::size_t index);
  net::awaitable<void> assign();
  net::awaitable<bool> accepted(std::size_t index);
  Move* next_placed();
  bool may_fit_later() const;
  bool usable(const std::string& node) const;
  bool may_begin() const;
  bool may_end() const;
  void begin(Move& move);
  void settle(Move& move);
  net::awaitable<void> settle_those_that_ended();
  void let_stay(const Reason& why);  // whatever waits
  Reason cancelled() const;
  Seat seat_of(const Node& node) const;
  MigrationSpec spec_of(const Move& move) const;
  std::uint64_t needed(const Move& move) const;
  std::vector<WorkloadView> living() const;
  std::size_t count(MoveState state) const;
  double predicted_total_s() const;

  Registry& registry_;
  Driver& driver_;
  Store& store_;
  AgentService& agents_;
  const Evacuations& all_;
  Previewer previewer_;
  EvacuationRequest request_;
  Phase phase_ = Phase::planning;
  bool driven_ = false;
  std::vector<Move> moves_;                            // in the order of their turns
  std::map<std::string, Clock::time_point> starting_;  // workloads, and since when that was seen
  bool awaits_start_ = false;                          // by the last look
  std::optional<std::string> cancelled_by_;
  Clock::time_point began_ = Clock::now();
  double total_s_ = 0;
};

// One per node at a time; the last one of each node can still be asked for.
class Evacuations {
 public:
  Evacuations(net::Executor executor, Registry& registry, Driver& driver, Store& store, AgentService& agents)
      : executor_(std::move(executor)), registry_(registry), driver_(driver), store_(store), agents_(agents) {}

  // Errors: not_found, invalid_argument, peer_lost, busy.
  std::shared_ptr<Evacuation> prepare(EvacuationRequest request);   // for a dry run: plan() and report()
  std::shared_ptr<Evacuation> start(EvacuationRequest request);     // cordons the node, or throws why it cannot be
  std::shared_ptr<Evacuation> find(const std::string& node) const;  // Errc::not_found
  void cancel(const std::string& node, const std::string& by);      // Errc::not_found when none is under way

  // By all evacuations, and by the migrations that were asked for one by one.
  Promised promised_to(const std::string& node) const;

 private:
  net::Executor executor_;
  Registry& registry_;
  Driver& driver_;
  Store& store_;
  AgentService& agents_;
  std::map<std::string, std::shared_ptr<Evacuation>> evacuations_;
};

}  // namespace godwit::coordinator
