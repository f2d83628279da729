// What program a process runs, as far as an exec changes it: equal texts, the same program.
#pragma once

#include <string>

#include <sys/types.h>

namespace godwit::engine {

// Errc::target_gone when it has ended.
std::string program_of(pid_t pid);

// It has run no program since it was forked.
bool forked_only(pid_t pid);
// And its parent runs the same one, which is not so of what a restore has made.
bool forked_by_its_like(pid_t pid);

}  // namespace godwit::engine
