// Starts this program again as a process that outlives the command: its own session, no terminal, /dev/null for
// standard descriptors, the root of every control group, a clean environment. Its descriptor 3 is `fd`.
#pragma once

#include <string>
#include <vector>

namespace godwit::engine::holder {

// To the root of every control group: who ends the caller's group (a service manager, say) does not end this process
// with it. Where that is not permitted it stays.
void leave_cgroups();

void start_detached(const std::vector<std::string>& words, int fd);

}  // namespace godwit::engine::holder
