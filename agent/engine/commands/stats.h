// stats-dump and stats-restore in the work directory, as CRIU writes them.
#pragma once

#include "agent/engine/commands/places.h"
#include "agent/engine/dump.h"

namespace godwit::engine::commands {

// `frozen` is empty after a pre-dump, `held` what the set has or refers to.
void write_stats(const Places& places, const RoundDone& round, const Dump::Frozen& frozen, const HeldPages& held);
void write_stats(const Places& places, const Prepared& prepared, std::uint64_t pages);

}  // namespace godwit::engine::commands
