// Which processes share an object that the kernel has for each: its table of descriptors, its working directory, its
// memory.
#pragma once

#include <span>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

// For each of `pids`, in their order, the first of them that has the same object of this kind (kcmp(2): KCMP_FILES,
// KCMP_FS, KCMP_VM); itself where no other one before it does. One that is ending has let go of its objects and shares
// none. n log n comparisons. Errc::denied and so on when the kernel does not say.
std::vector<pid_t> first_sharers(std::span<const pid_t> pids, int kind);

}  // namespace godwit::engine
