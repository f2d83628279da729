// What program a process runs, as far as an exec changes it: equal texts, the same program.
#pragma once

#include <string>

#include <sys/types.h>

namespace godwit::engine {

// Errc::target_gone when it has ended.
std::string program_of(pid_t pid);

}  // namespace godwit::engine
