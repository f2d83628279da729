// The half of AddressSpace that keeps a mapping one.
//
// A layout describes what the kernel had as one mapping in the source. It may have come about by the merger of mappings
// that were apart when they were filled here: each has an anon_vma of its own then, and the kernel never merges them.
// The program would notice: mremap over the border fails with EFAULT. So all pieces but the largest are made anew
// beside it, a part at a time: a fresh mapping has no anon_vma and joins its neighbour.

#include "agent/engine/memory/address_space.h"
#include "agent/engine/memory/calls.h"
#include "common/proc/maps.h"
#include "common/proc/reader.h"

#include <algorithm>

#include <sys/mman.h>
#include <sys/syscall.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t part_size = 4u << 20;  // copied at once

std::uint64_t size_of(const LayoutDelta::Range& r) { return r.end - r.start; }

}  // namespace

void AddressSpace::unite_mappings() {
  const std::vector<proc::Vma> maps = proc::Reader(remote_.pid()).maps();
  auto vma = maps.begin();
  for (const image::VmaEntry& e : layout_) {
    while (vma != maps.end() && vma->end <= e.start()) ++vma;
    if (!(e.flags() & MAP_ANONYMOUS) || (e.flags() & MAP_SHARED) || range_around(forked_, e)) continue;
    std::vector<LayoutDelta::Range> pieces;
    for (auto piece = vma; piece != maps.end() && piece->start < e.end(); ++piece)
      pieces.push_back({std::max(piece->start, e.start()), std::min(piece->end, e.end())});
    if (pieces.size() > 1) unite(e, pieces);
  }
}

// The piece that stays is marked (MADV_DONTDUMP, which finish() sets where it belongs), and each new part after it was
// mapped: marked, it can only join that piece, not another neighbour.
void AddressSpace::unite(const image::VmaEntry& mapping, const std::vector<LayoutDelta::Range>& pieces) {
  const auto stays = std::ranges::max_element(pieces, {}, size_of);
  Calls calls(remote_, scratch_);
  calls.room().add("mark a mapping", SYS_madvise, stays->start, size_of(*stays), MADV_DONTDUMP);
  calls.run();
  for (std::uint64_t at = stays->end; at < mapping.end();) {
    const std::uint64_t end = std::min(at + part_size, mapping.end());
    renew(mapping, {at, end});
    at = end;
  }
  for (std::uint64_t at = stays->start; at > mapping.start();) {
    const std::uint64_t start = at - std::min(part_size, at - mapping.start());
    renew(mapping, {start, at});
    at = start;
  }
  calls.room().add("unmark a mapping", SYS_madvise, mapping.start(), mapping.end() - mapping.start(), MADV_DODUMP);
  calls.run();
}

void AddressSpace::renew(const image::VmaEntry& mapping, const LayoutDelta::Range& part) {
  std::vector<SavedPages> saved;
  save(mapping, part, saved);
  image::VmaEntry again = mapping;
  again.set_start(part.start);
  again.set_end(part.end);
  Calls calls(remote_, scratch_);
  calls.room().add("unmap a part", SYS_munmap, part.start, size_of(part));
  calls.run();
  map_all({again}, {});
  calls.room().add("mark a part", SYS_madvise, part.start, size_of(part), MADV_DONTDUMP);
  calls.run();
  put_back(saved);
}

}  // namespace godwit::engine
