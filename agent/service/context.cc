#include "agent/service/context.h"

namespace godwit::service {

static_assert(static_cast<int>(SourcePhase::none) == api::SOURCE_NONE);
static_assert(static_cast<int>(SourcePhase::lost) == api::SOURCE_LOST);
static_assert(static_cast<int>(DestinationPhase::none) == api::DESTINATION_NONE);
static_assert(static_cast<int>(DestinationPhase::lost) == api::DESTINATION_LOST);

std::optional<workload::Cgroup> living_copy(const Context& context, const Record& record) {
  if (record.boot_id != context.facts.boot_id || record.cgroup.empty()) return std::nullopt;
  auto cgroup = workload::Cgroup::open(context.cgroup(record.cgroup));
  if (!cgroup || !cgroup->populated()) return std::nullopt;
  return cgroup;
}

api::SourceState source_state(Context& context, const Key& key, std::uint64_t frozen_ns) {
  api::SourceState state;
  fill(state.mutable_id(), key);
  const Record* record = context.records.find(key);
  state.set_phase(static_cast<api::SourcePhase>(record ? record->phase : api::SOURCE_NONE));
  state.set_frozen_ns(frozen_ns);
  state.set_store_uuid(context.records.store_uuid());
  state.set_boot_id(context.facts.boot_id);
  return state;
}

api::DestinationState destination_state(Context& context, const Key& key) {
  api::DestinationState state;
  fill(state.mutable_id(), key);
  const Record* record = context.records.find(key);
  state.set_phase(static_cast<api::DestinationPhase>(record ? record->phase : api::DESTINATION_NONE));
  state.set_boot_id(context.facts.boot_id);
  state.set_store_uuid(context.records.store_uuid());
  state.set_hold(record && record->destination() == DestinationPhase::lost && record->hold);
  return state;
}

}  // namespace godwit::service
