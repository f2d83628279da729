// stats-dump and stats-restore in the work directory, as CRIU writes them.
#pragma once

#include "agent/engine/commands/places.h"
#include "agent/engine/dump.h"
#include "common/image/stats.pb.h"

namespace godwit::engine::commands {

// Of a dump, but for how long the tree stood still, which is known when it runs again. `frozen` is empty after a
// pre-dump, `held` what the set has or refers to.
image::DumpStatsEntry dump_stats(const RoundDone& round, const Dump::Frozen& frozen, const HeldPages& held);
// `frozen_ns`: from when the first process was asked to stop until the last one ran again, had ended, or was left to
// its stop. CRIU's begins when the last one has stopped.
void write_stats(const Places& places, image::DumpStatsEntry dump, std::uint64_t frozen_ns);
void write_stats(const Places& places, const Prepared& prepared, std::uint64_t pages);

}  // namespace godwit::engine::commands
