// Emptying one node: every workload that lives there moves to where it fits, a few at a time.
//
// The plan lives in memory; what it can be made from again is journaled: what was asked for together with the cordon,
// each move together with its migration, a cancel, and the report at the end. A coordinator that starts drives on, by
// the same steps, what has no report. It waits for the nodes that were there, reads off the migrations how their moves
// went, and plans anew for whatever else lives on the node. Nothing here is about safety.
#pragma once

#include "coordinator/fleet/evacuation_request.h"
#include "coordinator/fleet/move.h"
#include "coordinator/fleet/placement.h"
#include "coordinator/fleet/preview.h"
#include "coordinator/service/agents.h"

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace godwit::coordinator {

// By workload: memory that does not show in what the node says of itself, because it is not used there yet.
using Promised = std::map<std::string, std::uint64_t>;

class Evacuations;

class Evacuation {
 public:
  // `number`: in the journal; 0 of a dry run.
  Evacuation(Registry& registry, Driver& driver, Store& store, AgentService& agents, const Evacuations& all,
             EvacuationRequest request, std::int64_t number);

  // Of one that an earlier life of the coordinator has begun. The driver drives its migrations on already.
  void take_over(const StoredEvacuation& stored);

  net::awaitable<void> plan();  // looks at every workload that is not planned yet, and places it
  // Of a cordoned node: plans, moves; returns when it has ended, or the coordinator is to end. Once.
  net::awaitable<void> drive();

  // None begins any more, and those that can still be rolled back are. Errc::internal when it is so, but a later life
  // of the coordinator would not know.
  void cancel(const std::string& by);

  bool ended() const { return phase_ == Phase::ended; }
  nlohmann::json report() const;
  Promised promised_to(const std::string& node) const;

 private:
  enum class Phase { planning = 1, moving, ended };

  net::awaitable<void> move_all();
  net::awaitable<void> await_those_present();
  net::awaitable<void> end();
  Move* next_placed();
  bool usable(const std::string& node) const;
  bool may_begin() const;
  bool may_end() const;
  void begin(Move& move);
  void adopt(const std::string& migration);
  bool settle(Move& move);  // true: it is to be looked at anew
  net::awaitable<bool> settle_those_that_ended();
  bool was_interrupted(const Move& move, const Migration& ended) const;
  void let_stay(const Reason& why);  // whatever waits
  Reason cancelled() const;
  MigrationSpec spec_of(const Move& move) const;
  std::vector<WorkloadView> living() const;
  std::size_t count(MoveState state) const;
  double predicted_total_s() const;
  double so_far_s() const;

  // evacuation_plan.cc
  net::awaitable<void> look();
  bool may_wait_for(const std::string& starting);
  net::awaitable<void> survey(std::size_t index);
  net::awaitable<void> assign();
  net::awaitable<bool> accepted(std::size_t index);
  bool may_fit_later() const;
  Seat seat_of(const Node& node) const;
  std::uint64_t needed(const Move& move) const;

  Registry& registry_;
  Driver& driver_;
  Store& store_;
  AgentService& agents_;
  const Evacuations& all_;
  Previewer previewer_;
  EvacuationRequest request_;
  std::int64_t number_;
  Phase phase_ = Phase::planning;
  std::vector<Move> moves_;  // in the order of their turns
  std::map<std::string, std::map<std::string, std::string>>
      refused_by_;                                     // workload: nodes that are out of the question
  std::map<std::string, Clock::time_point> starting_;  // workloads, and since when that was seen
  bool awaits_start_ = false;                          // by the last look
  std::optional<std::string> cancelled_by_;
  bool cancel_kept_ = false;
  Clock::time_point began_ = Clock::now();
  std::optional<std::int64_t> began_unix_ms_;  // of one that was taken over
  double total_s_ = 0;
};

}  // namespace godwit::coordinator
