#include "agent/engine/commands/stats.h"

#include "common/image/image_set.h"

#include <algorithm>

namespace godwit::engine::commands {
namespace {

using Steps = google::protobuf::RepeatedPtrField<Step>;

std::uint32_t microseconds(std::uint64_t nanoseconds) {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(nanoseconds / 1000, UINT32_MAX));
}

std::uint64_t of(const Steps& steps, std::string_view name) {
  std::uint64_t sum = 0;
  for (const Step& s : steps)
    if (name.empty() || s.name() == name) sum += s.nanoseconds();
  return sum;
}

void save(const Places& places, image::Kind kind, const image::StatsEntry& stats) {
  image::ImageSet images;
  images.put(kind, 0, stats);
  images.save(places.work.get());
}

}  // namespace

image::DumpStatsEntry dump_stats(const RoundDone& round, const Dump::Frozen& frozen, const HeldPages& held) {
  std::uint64_t own = 0, shared = 0;
  for (const auto& [id, pages] : held)
    (pagewire::object_type(id) == pagewire::ObjectType::task ? own : shared) += pages->size();
  image::DumpStatsEntry d;
  d.set_freezing_time(microseconds(of(frozen.steps.list(), "stop")));
  d.set_memdump_time(microseconds(round.nanoseconds()));
  d.set_memwrite_time(0);  // pages are written as they are read
  d.set_pages_scanned(own + shared);
  d.set_pages_written(round.pages());
  d.set_pages_skipped_parent(own + shared - std::min(own + shared, round.pages()));
  d.set_pages_lazy(0);
  return d;
}

void write_stats(const Places& places, image::DumpStatsEntry dump, std::uint64_t frozen_ns) {
  dump.set_frozen_time(microseconds(frozen_ns));
  image::StatsEntry stats;
  *stats.mutable_dump() = std::move(dump);
  save(places, image::Kind::stats_dump, stats);
}

void write_stats(const Places& places, const Prepared& prepared, std::uint64_t pages) {
  image::StatsEntry stats;
  image::RestoreStatsEntry& r = *stats.mutable_restore();
  r.set_pages_compared(0);
  r.set_pages_skipped_cow(0);
  r.set_forking_time(microseconds(of(prepared.steps(), "threads")));
  r.set_restore_time(microseconds(of(prepared.steps(), "")));
  r.set_pages_restored(pages);
  save(places, image::Kind::stats_restore, stats);
}

}  // namespace godwit::engine::commands
