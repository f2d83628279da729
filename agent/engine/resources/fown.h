// Who gets SIGIO from an open file, and with which signal (F_SETOWN_EX, F_SETSIG).
#pragma once

#include "agent/engine/resources/fd_view.h"
#include "agent/engine/resources/refusal.h"
#include "common/image/fown.pb.h"

#include <optional>
#include <vector>

#include <sys/types.h>

namespace godwit::engine::resources {

// SIGIO goes to a process that is not in `tree`, another thread than the first of one, or a group that none of them
// leads.
std::optional<Refusal> refuse_fown(const FdView& view, const std::vector<pid_t>& tree);

// `fd` is our copy of a descriptor. The owner's PID is translated to what the task itself sees.
image::FownEntry dump_fown(int fd);

// As root. `owner_pid` is the owner's PID as this process sees it. Does nothing for an entry without owner and signal.
void restore_fown(const image::FownEntry& entry, int fd, pid_t owner_pid);

}  // namespace godwit::engine::resources
