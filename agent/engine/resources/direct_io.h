// Reads past the page cache, which write into a task's memory past its page tables.
#pragma once

#include <sys/types.h>

namespace godwit::engine::resources {

// Whether a descriptor of a file or a block device reads with O_DIRECT. The task may run.
bool reads_directly(pid_t pid);

}  // namespace godwit::engine::resources
