#include "agent/engine/commands/dedup_command.h"

#include "agent/engine/commands/places.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/image/dedup.h"

namespace godwit::engine::commands {

void dedup_images(int directory) {
  const std::uint64_t freed = image::dedup(directory);
  log::info("dedup.done", {{"pages", freed / page_size}, {"bytes", freed}});
}

int run_dedup(const Options& o) {
  const Places places = open_places(o, Missing::fails);
  dedup_images(places.images.get());
  return 0;
}

}  // namespace godwit::engine::commands
