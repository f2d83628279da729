// A file that says, by its lock, that somebody uses what lies beside it; two who write it would undo each other's work.
//
// The lock belongs to the descriptor and goes with it, however its process ends; programs that are executed do not
// inherit it. The file stays, and there is nothing in it.
#pragma once

#include "common/base/fd.h"

#include <chrono>

namespace godwit {

// Nothing: somebody else has it, also after a moment: who was killed may not have let go of it yet. Makes the file
// where there is none.
UniqueFd take_lock(const std::string& path, std::chrono::milliseconds patience = std::chrono::seconds(2));

}  // namespace godwit
