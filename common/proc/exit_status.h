// How a process has ended, as its pidfd tells, though it need not be a child of ours.
#pragma once

#include <optional>

namespace godwit::proc {

// A status of wait(2). Nothing while the process is there, as a zombie too, and where the kernel does not tell (Linux
// before 6.15).
std::optional<int> exit_status(int pidfd);

}  // namespace godwit::proc
