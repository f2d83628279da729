#include "agent/engine/memory/layout_delta.h"

#include "agent/engine/numa/policy.h"
#include "common/base/error.h"
#include "common/base/units.h"
#include "common/image/vma_status.h"

#include <algorithm>
#include <limits>
#include <set>

#include <sys/mman.h>

namespace godwit::engine {
namespace {

// What may differ between two mappings of the same thing and is put right in the end.
constexpr std::uint32_t late_flags = MAP_LOCKED;
constexpr std::uint32_t backing_status = image::vma_status::file_private | image::vma_status::file_shared |
                                         image::vma_status::anon_shared | image::vma_status::anon_private |
                                         image::vma_status::memfd | image::vma_status::aio_ring;

bool has_offset(const image::VmaEntry& e) {
  return e.status() & (image::vma_status::file_private | image::vma_status::file_shared |
                       image::vma_status::anon_shared | image::vma_status::memfd);
}

const image::VmaEntry* covering(const Vmas& vmas, std::uint64_t address) {
  auto it = std::upper_bound(vmas.begin(), vmas.end(), address,
                             [](std::uint64_t a, const image::VmaEntry& e) { return a < e.start(); });
  if (it == vmas.begin()) return nullptr;
  --it;
  return address < it->end() ? &*it : nullptr;
}

// The parent's mapping that the child has `e` from.
const image::VmaEntry* origin_of(const image::VmaEntry& e, const Vmas& parent) {
  if (e.flags() & (MAP_SHARED | MAP_HUGETLB)) return nullptr;  // a huge page that two share may be impossible to copy
  const image::VmaEntry* from = covering(parent, e.start());
  return from && e.end() <= from->end() && same_backing(*from, e) ? from : nullptr;
}

// Grows the last range when the next one continues it.
void append(std::vector<LayoutDelta::Range>& ranges, std::uint64_t start, std::uint64_t end) {
  if (!ranges.empty() && ranges.back().end == start)
    ranges.back().end = end;
  else
    ranges.push_back({start, end});
}

void append_map(Vmas& map, const image::VmaEntry& whole, std::uint64_t start, std::uint64_t end) {
  if (!map.empty() && map.back().end() == start && map.back().end() > whole.start()) {
    map.back().set_end(end);  // the next segment of the same entry
    return;
  }
  image::VmaEntry part = whole;
  part.set_start(start);
  part.set_end(end);
  if (has_offset(whole)) part.set_pgoff(whole.pgoff() + (start - whole.start()));
  map.push_back(std::move(part));
}

bool continues(const image::VmaEntry& last, const image::VmaEntry& next) {
  if (last.end() != next.start() || !(next.flags() & MAP_ANONYMOUS) || (next.flags() & (MAP_SHARED | MAP_GROWSDOWN)) ||
      (next.status() & image::vma_status::aio_ring))
    return false;
  image::VmaEntry a = last, b = next;
  for (image::VmaEntry* e : {&a, &b}) {
    e->set_start(0);
    e->set_end(0);
    e->set_pgoff(0);
    e->clear_guards();
  }
  return a.SerializePartialAsString() == b.SerializePartialAsString();
}

std::optional<image::NumaPolicyEntry> policy_of(const image::VmaEntry& e) {
  return e.has_numa() ? std::optional(e.numa()) : std::nullopt;
}

bool same_policy(const image::VmaEntry& a, const image::VmaEntry& b) {
  return a.has_numa() == b.has_numa() && a.numa().mode() == b.numa().mode() &&
         std::ranges::equal(a.numa().nodes(), b.numa().nodes());
}

bool guards_fit(const image::VmaEntry& e) {
  std::uint64_t last = e.start();
  for (const std::uint64_t guard : e.guards()) {
    if (guard < last || guard > e.end() || guard % page_size) return false;
    last = guard;
  }
  return e.guards_size() % 2 == 0;
}

}  // namespace

void check_layout(const Vmas& layout) {
  constexpr std::uint64_t largest_offset = std::numeric_limits<std::int64_t>::max();
  std::uint64_t free_from = 0;
  for (const image::VmaEntry& e : layout) {
    const auto require = [&](bool fine, const char* what) {
      if (!fine) fail(Errc::image_corrupt, "a layout with a mapping {:#x}-{:#x}: {}", e.start(), e.end(), what);
    };
    require(e.start() < e.end() && e.start() % page_size == 0 && e.end() % page_size == 0, "no whole pages");
    require(e.start() >= free_from, "it comes before the one in front of it ends");
    require(!has_offset(e) || (e.pgoff() <= largest_offset && e.end() - e.start() <= largest_offset - e.pgoff()),
            "no file is as long as that");
    require(!e.has_numa() || numa::valid(e.numa()), "its NUMA memory policy is none");
    require(guards_fit(e), "its guard pages are not pages of it");
    free_from = e.end();
  }
}

bool lies_in(const image::VmaEntry& entry, const LayoutDelta::Range& range) {
  return range.start <= entry.start() && entry.end() <= range.end;
}

const LayoutDelta::Range* range_around(std::span<const LayoutDelta::Range> ranges, const image::VmaEntry& entry) {
  const auto after = std::ranges::upper_bound(ranges, entry.start(), {}, &LayoutDelta::Range::start);
  return after != ranges.begin() && lies_in(entry, after[-1]) ? &after[-1] : nullptr;
}

std::vector<LayoutDelta::Range> outgrown(std::span<const LayoutDelta::Range> ranges, const Vmas& layout) {
  std::vector<LayoutDelta::Range> out;
  auto first = layout.begin();
  for (const LayoutDelta::Range& r : ranges) {
    while (first != layout.end() && first->end() <= r.start) ++first;
    auto e = first;
    while (e != layout.end() && e->start() < r.end && lies_in(*e, r)) ++e;
    if (e != layout.end() && e->start() < r.end) out.push_back(r);
  }
  return out;
}

std::vector<LayoutDelta::Range> without(std::span<const LayoutDelta::Range> ranges,
                                        std::span<const LayoutDelta::Range> holes) {
  std::vector<LayoutDelta::Range> left;
  auto first = holes.begin();
  for (LayoutDelta::Range r : ranges) {
    while (first != holes.end() && first->end <= r.start) ++first;
    for (auto hole = first; hole != holes.end() && hole->start < r.end; ++hole) {
      if (r.start < hole->start) left.push_back({r.start, hole->start});
      r.start = hole->end;
    }
    if (r.start < r.end) left.push_back(r);
  }
  return left;
}

bool inherits_any(const Vmas& parent, const Vmas& child) {
  return std::ranges::any_of(child, [&](const image::VmaEntry& e) { return origin_of(e, parent) != nullptr; });
}

Vmas inherited(const Vmas& parent, const Vmas& child) {
  Vmas out;
  std::uint64_t within = 0;  // the start of the parent's mapping that the last one is from
  for (const image::VmaEntry& e : child) {
    const image::VmaEntry* from = origin_of(e, parent);
    if (!from) continue;
    image::VmaEntry kept = e;
    kept.set_prot(from->prot());
    kept.clear_numa();
    if (from->has_numa()) *kept.mutable_numa() = from->numa();
    if (!out.empty() && within == from->start() && continues(out.back(), kept))
      out.back().set_end(kept.end());
    else
      out.push_back(std::move(kept));
    within = from->start();
  }
  return out;
}

Vmas united(const Vmas& layout, std::span<const LayoutDelta::Range> apart) {
  Vmas out;
  for (const image::VmaEntry& e : layout) {
    const bool one =
        !out.empty() && continues(out.back(), e) && range_around(apart, out.back()) == range_around(apart, e);
    if (!one) {
      out.push_back(e);
      continue;
    }
    out.back().set_end(e.end());
    out.back().mutable_guards()->MergeFrom(e.guards());
  }
  return out;
}

bool same_backing(const image::VmaEntry& a, const image::VmaEntry& b) {
  if ((a.flags() & ~late_flags) != (b.flags() & ~late_flags)) return false;
  if ((a.status() & backing_status) != (b.status() & backing_status) || a.shmid() != b.shmid()) return false;
  return !has_offset(a) || a.pgoff() - a.start() == b.pgoff() - b.start();
}

LayoutDelta difference(const Vmas& from, const Vmas& to) {
  std::set<std::uint64_t> borders;
  for (const Vmas* vmas : {&from, &to})
    for (const image::VmaEntry& e : *vmas) {
      borders.insert(e.start());
      borders.insert(e.end());
    }
  LayoutDelta delta;
  for (auto it = borders.begin(); it != borders.end() && std::next(it) != borders.end(); ++it) {
    const std::uint64_t start = *it, end = *std::next(it);
    const image::VmaEntry* old = covering(from, start);
    const image::VmaEntry* now = covering(to, start);
    if (old && now && same_backing(*old, *now)) {
      if (old->prot() != now->prot()) delta.protect.push_back({{start, end}, now->prot()});
      if (!same_policy(*old, *now)) delta.place.push_back({{start, end}, policy_of(*now)});
      continue;
    }
    if (old) append(delta.unmap, start, end);
    if (now) append_map(delta.map, *now, start, end);
  }
  return delta;
}

}  // namespace godwit::engine
