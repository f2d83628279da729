#include "coordinator/fleet/move.h"

#include "coordinator/fleet/preview.h"
#include "coordinator/migration/json.h"

namespace godwit::coordinator {

using nlohmann::json;

std::string_view name(MoveState state) {
  switch (state) {
    case MoveState::waiting: return "waiting";
    case MoveState::moving: return "moving";
    case MoveState::moved: return "moved";
    case MoveState::failed: return "failed";
    case MoveState::stays: return "stays";
    case MoveState::unknown: return "unknown";
  }
  return "unknown";
}

json to_json(const Move& m) {
  const bool moved = m.state == MoveState::moved;
  const bool planned = !m.to.empty() && !m.surveyed.engine().empty();
  return {{"workload", m.workload},
          {"state", name(m.state)},
          {"to", m.to.empty() ? json() : json(m.to)},
          {"migration", m.migration.empty() ? json() : json(m.migration)},
          {"resident_bytes", m.surveyed.resident_bytes()},
          {"predicted", planned ? to_json(m.forecast) : json()},
          {"downtime_ms", moved && m.downtime_ns > 0 ? json(static_cast<double>(m.downtime_ns) / 1e6) : json()},
          {"total_s", moved ? json(m.total_s) : json()},
          {"bytes", moved ? json(m.bytes) : json()},
          {"reason", m.reason ? to_json(*m.reason) : json()}};
}

Reason reason_of(const Error& e) { return {e.errc(), e.message(), e.hint()}; }

}  // namespace godwit::coordinator
