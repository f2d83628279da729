// What a survey has found and an option was meant for: refused by name, with the option in the sentence.
#pragma once

#include "agent/engine/commands/options.h"
#include "agent/engine/job.pb.h"

namespace godwit::engine::commands {

// Errc::refused with everything that cannot be carried. Logs the notices.
void refuse_by_name(const Surveyed& surveyed, const Options& options);

// Adds what a restore by hand does not make anew: namespaces other than the engine's. One for PIDs it does (-n), and
// the mounts that go with it.
void refuse_namespaces(Surveyed& surveyed, pid_t pid);

}  // namespace godwit::engine::commands
