// godwit cpuinfo dump, godwit cpuinfo check: the processor as cpuinfo.img, and whether this one can do what that one
// could.
#pragma once

#include "agent/engine/commands/options.h"

namespace godwit::engine::commands {

int run_cpuinfo_dump(const Options& options);
int run_cpuinfo_check(const Options& options);  // Errc::refused names what is missing

}  // namespace godwit::engine::commands
