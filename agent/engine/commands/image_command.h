// godwit image show: images as JSON.
#pragma once

#include "agent/engine/commands/options.h"

namespace godwit::engine::commands {

int run_image_show(const Options& options);

}  // namespace godwit::engine::commands
