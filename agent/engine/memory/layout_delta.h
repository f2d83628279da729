// The difference between two layouts of an address space: pure, so that it can be tested without a process.
#pragma once

#include "common/image/mm.pb.h"

#include <cstdint>
#include <optional>
#include <span>
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
  struct Place {
    Range range;
    std::optional<image::NumaPolicyEntry> policy;  // nothing: the default
  };
  std::vector<Place> place;
};

// What turns `from` into `to`. Parts with the same backing are kept with their content.
LayoutDelta difference(const Vmas& from, const Vmas& to);

// `layout` with neighbours made one that differ in nothing but where they are. Anonymous memory may be in two mappings
// because it was filled or tracked apart; that nothing tells them apart is as good as one. What lies in one of `apart`
// is joined with nothing outside of that.
Vmas united(const Vmas& layout, std::span<const LayoutDelta::Range> apart = {});

bool lies_in(const image::VmaEntry& entry, const LayoutDelta::Range& range);

// Of ranges that ascend, none over another, as all below do: the one that `entry` lies in; null when it lies in none.
const LayoutDelta::Range* range_around(std::span<const LayoutDelta::Range> ranges, const image::VmaEntry& entry);
// Those over which a mapping of `layout` lies with only a part of itself.
std::vector<LayoutDelta::Range> outgrown(std::span<const LayoutDelta::Range> ranges, const Vmas& layout);
// What is left of `ranges`.
std::vector<LayoutDelta::Range> without(std::span<const LayoutDelta::Range> ranges,
                                        std::span<const LayoutDelta::Range> holes);

// The mappings of `child` that it can have from a fork of `parent`: private ones, each whole in one of the parent's,
// with that one's protection and NUMA policy.
Vmas inherited(const Vmas& parent, const Vmas& child);
bool inherits_any(const Vmas& parent, const Vmas& child);

// Whether two entries map the same thing at the same addresses (where they overlap).
bool same_backing(const image::VmaEntry& a, const image::VmaEntry& b);

}  // namespace godwit::engine
