// Where the pages of a dump go, as the command line says.
#pragma once

#include "agent/engine/commands/places.h"
#include "agent/engine/memory/dump_sink.h"

#include <memory>

namespace godwit::engine::commands {

// State images go into the images directory in any case. `places` outlives the sink.
std::unique_ptr<DumpSink> make_sink(const Options& options, const Places& places);

}  // namespace godwit::engine::commands
