// Memory that malloc has at hand, so that what comes next does not fault: the kernel finds and zeroes a page at its
// first use, which takes 0.5 to 2 us, and many allocations in a short time are mostly that.
#pragma once

#include <cstddef>

namespace godwit {

// `bytes` of the heap are there, and what the calling process frees stays with it from now on. For the thread that has
// the process's first arena, as a rule the first one. Best effort: no error.
void warm_heap(std::size_t bytes);

}  // namespace godwit
