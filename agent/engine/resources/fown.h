// Who gets SIGIO from an open file, and with which signal (F_SETOWN_EX, F_SETSIG).
#pragma once

#include "agent/engine/resources/fd_view.h"
#include "agent/engine/resources/refusal.h"
#include "common/image/fown.pb.h"

#include <optional>

namespace godwit::engine::resources {

// SIGIO goes to another process, another thread than the first, or a group that the task does not lead.
std::optional<Refusal> refuse_fown(const FdView& view);

// `fd` is our copy of a descriptor. The owner's PID is translated to what the task itself sees.
image::FownEntry dump_fown(int fd);

// As root. `own_pid` is the task's PID as this process sees it. Does nothing for an entry without owner and signal.
void restore_fown(const image::FownEntry& entry, int fd, pid_t own_pid);

}  // namespace godwit::engine::resources
