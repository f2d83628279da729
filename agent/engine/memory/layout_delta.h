// The difference between two layouts of an address space: pure, so that it can be tested without a process.
#pragma once

#include "common/image/mm.pb.h"

#include <cstdint>
#include <vector>

namespace godwit::engine {

using Vmas = std::vector<image::VmaEntry>;  // as check_layout() wants them

// Of a layout from outside: mappings of whole pages, ascending, none over another, their guard pages within them.
// Errc::image_corrupt.
void check_layout(const Vmas& layout);

struct LayoutDelta {
  struct Range {
    std::uint64_t start, end;
  };
  std::vector<Range> unmap;
  Vmas map;  // possibly cut to the part that is new; pgoff adjusted
  struct Protect {
    Range range;
    std::uint32_t prot;
  };
  std::vector<Protect> protect;
};

// What turns `from` into `to`. Parts with the same backing are kept with their content.
LayoutDelta difference(const Vmas& from, const Vmas& to);

// `layout` with neighbours made one that differ in nothing but where they are. Anonymous memory may be in two mappings
// because it was filled or tracked apart; that nothing tells them apart is as good as one.
Vmas united(const Vmas& layout);

// Whether two entries map the same thing at the same addresses (where they overlap).
bool same_backing(const image::VmaEntry& a, const image::VmaEntry& b);

}  // namespace godwit::engine
