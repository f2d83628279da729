// What a restore needs of this host, looked at before anything is made: all that is missing in one answer.
#pragma once

#include "agent/engine/commands/options.h"
#include "common/image/image_set.h"

namespace godwit::engine::commands {

// Errc::image_corrupt when the set is none to restore from; Errc::refused when its parents are of other dumps, and with
// every file that is missing or differs and every PID that is taken, and by whom (not with --namespaces);
// Errc::already_exists when it is PIDs only.
void check_before_restore(const image::ImageSet& images, int directory, const Options& options);

}  // namespace godwit::engine::commands
