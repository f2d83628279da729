// Starts this program again as a process that outlives the command: its own session, no terminal, /dev/null for
// standard descriptors, the root of every control group, a clean environment. Its descriptor 3 is `fd`.
#pragma once

#include <string>
#include <vector>

namespace godwit::engine::holder {

void start_detached(const std::vector<std::string>& words, int fd);

}  // namespace godwit::engine::holder
