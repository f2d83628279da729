// One workload of a node that is emptied: where it goes, and what has become of that.
#pragma once

#include "common/api/control.pb.h"
#include "coordinator/fleet/forecast.h"
#include "coordinator/migration/migration.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace godwit::coordinator {

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
  std::string migration;    // id, once there is one
  bool own = true;          // begun by the evacuation; else it was under way already, and is waited for
  bool taken_over = false;  // from the journal
  api::Surveyed surveyed;
  Forecast forecast;
  std::optional<Reason> reason;  // why it has not moved, or not yet
  std::int64_t downtime_ns = 0;
  double total_s = 0;
  std::uint64_t bytes = 0;
};

nlohmann::json to_json(const Move& move);
Reason reason_of(const Error& error);

}  // namespace godwit::coordinator
