// godwit dedup: frees in the dumps before what a dump supersedes.
#pragma once

#include "agent/engine/commands/options.h"

namespace godwit::engine::commands {

int run_dedup(const Options& options);

// The same as a part of --auto-dedup, for the images directory.
void dedup_images(int directory);

}  // namespace godwit::engine::commands
