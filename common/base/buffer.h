// Bytes that begin at a page.
//
// Where a copy goes to matters: 1 to 31 bytes behind its source, counted modulo 4096, `rep movsb`, with which kernel and
// C library copy what is large, takes 6 to 10 times as long on AMD's Zen. Large blocks from malloc begin 16 bytes into
// a page, and pages at none. (Measured: docs/performance.md.)
#pragma once

#include "common/base/units.h"

#include <cstddef>
#include <new>
#include <vector>

namespace godwit {

template <typename T>
struct PageAligned {
  using value_type = T;
  PageAligned() = default;
  template <typename U>
  PageAligned(const PageAligned<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), alignment)); }
  void deallocate(T* at, std::size_t) { ::operator delete(at, alignment); }
  bool operator==(const PageAligned&) const = default;

 private:
  static constexpr std::align_val_t alignment{page_size};
};

using Buffer = std::vector<std::byte, PageAligned<std::byte>>;

}  // namespace godwit
