// Who gets SIGIO from an open file, and with which signal (F_SETOWN_EX, F_SETSIG).
#pragma once

#include "common/image/fown.pb.h"

namespace godwit::engine::resources {

// `fd` is our copy of a descriptor of task `pid`. The owner's PID is translated to what the task itself would see.
image::FownEntry dump_fown(int fd);

// As root, in the task's PID namespace. Does nothing for an entry without owner and signal.
void restore_fown(const image::FownEntry& entry, int fd);

}  // namespace godwit::engine::resources
