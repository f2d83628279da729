#include "common/base/warm_heap.h"

#include "common/base/units.h"

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include <malloc.h>
#include <sys/mman.h>

namespace godwit {

void warm_heap(std::size_t bytes) {
  constexpr int largest_from_heap = 32 << 20;  // the most that glibc allows; what is larger is mapped by itself
  constexpr std::size_t piece = 1u << 20;
  ::mallopt(M_TRIM_THRESHOLD, INT_MAX);
  ::mallopt(M_MMAP_THRESHOLD, largest_from_heap);
  std::vector<void*> pieces;
  for (; bytes > 0; bytes -= std::min(bytes, piece)) {
    void* const at = std::malloc(piece);
    if (!at) break;
    pieces.push_back(at);
    const auto begin = page_up(reinterpret_cast<std::uintptr_t>(at));
    ::madvise(reinterpret_cast<void*>(begin), piece - page_size, MADV_POPULATE_WRITE);  // 5.14+
  }
  for (void* const at : pieces) std::free(at);
}

}  // namespace godwit
