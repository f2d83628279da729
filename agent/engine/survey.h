// What a process consists of and what of it cannot be carried. Reads only; never stops anything.
#pragma once

#include "agent/engine/job.pb.h"
#include "agent/engine/resources/fd_table.h"

#include <sys/types.h>

namespace godwit::engine {

// Errc::target_gone when the process ends meanwhile.
Surveyed survey(pid_t pid, const resources::Options& options);

// Throws Errc::refused with all refusals in the message.
void refuse_unsupported(const Surveyed& surveyed);

// Children of any thread: Errc::busy, so that the caller may try again.
void refuse_children(pid_t pid);

}  // namespace godwit::engine
