// The half of AddressSpace that a fork has filled.
//
// A child is forked from its parent's skeleton and keeps what both layouts have in common, with the pages that are
// there by then. Then its own content comes: a page that is the same as the parent's stays shared with it, as it was in
// the source, and only what differs is written. What nobody has spoken of in the end is not the child's and goes.
//
// The kernel joins nothing with a mapping that is from a fork, so such a one is kept only as long as it lies whole in
// what was the parent's; one that has outgrown that is made anew, with its content.

#include "agent/engine/memory/address_space.h"
#include "agent/engine/memory/calls.h"
#include "common/base/check.h"

#include <algorithm>
#include <cstring>

#include <sys/mman.h>
#include <sys/syscall.h>

namespace godwit::engine {
namespace {

constexpr std::size_t compared_at_once = 256u << 10;  // both sides stay in the cache

}  // namespace

AddressSpace::Inherited AddressSpace::inherited_by(const Vmas& layout) const {
  Inherited left{.mappings = inherited(layout_, layout), .files = {}};
  std::erase_if(left.mappings, [&](const image::VmaEntry& e) { return absent_.contains(e.shmid()); });  // stand-ins
  for (const image::VmaEntry& e : left.mappings)
    if (const auto file = mapped_.find(e.shmid()); file != mapped_.end()) left.files.insert(*file);
  return left;
}

void AddressSpace::note_forked() {
  if (layout_.empty()) return;
  for (const image::VmaEntry& e : layout_) forked_.push_back({e.start(), e.end()});
  auto first = layout_.begin();
  for (const LayoutDelta::Range& r : own_pages({forked_.front().start, forked_.back().end})) {
    while (first != layout_.end() && first->end() <= r.start) ++first;
    for (auto e = first; e != layout_.end() && e->start() < r.end; ++e) {  // without the scratch memory
      const std::uint64_t start = std::max(r.start, e->start()), end = std::min(r.end, e->end());
      unconfirmed_.add(start, end);
      if (e->flags() & MAP_ANONYMOUS) placed_.add(start, end);
    }
  }
}

// Writes what differs from the parent's pages, which are at `address`. Returns how much of `data` is there now.
std::uint64_t AddressSpace::confirm(const image::VmaEntry& vma, std::uint64_t address,
                                    std::span<const std::byte> data) {
  data = data.first(std::min(data.size(), compared_at_once));
  thread_local Buffer room;  // not of each process: there are hundreds
  if (room.size() < data.size()) room.resize(data.size());
  const std::span found = std::span(room).first(data.size());
  // Not by process_vm_readv: since 5.19 it pins what it reads, and the kernel first makes a copy of a page that two
  // share.
  pread_exact(memory_.get(), found, static_cast<off_t>(address));

  const auto differs = [&](std::size_t at) { return std::memcmp(data.data() + at, found.data() + at, page_size) != 0; };
  for (std::size_t at = 0; at < data.size(); at += page_size) {
    std::size_t end = at;
    while (end < data.size() && differs(end)) end += page_size;
    if (end > at) write_memory(address + at, data.subspan(at, end - at), writable(vma));
    at = end;  // which is not different
  }
  unconfirmed_.remove(address, address + data.size());
  return data.size();
}

// Unmaps what is from the parent where `next` has a mapping that lies only partly in it. Returns its content.
std::vector<AddressSpace::SavedPages> AddressSpace::outgrow_fork(const Vmas& next) {
  const std::vector<LayoutDelta::Range> unmapped = outgrown(forked_, next);
  if (unmapped.empty()) return {};
  std::vector<SavedPages> saved;
  for (const image::VmaEntry& e : layout_)
    if (range_around(unmapped, e)) save(e, {e.start(), e.end()}, saved);
  Calls calls(remote_, scratch_);
  for (const auto& [start, end] : unmapped)
    calls.room().add("unmap what is from the parent", SYS_munmap, start, end - start);
  calls.run();
  forget(unmapped);
  std::erase_if(layout_, [&](const image::VmaEntry& e) { return range_around(unmapped, e); });
  return saved;
}

void AddressSpace::forget_pages(std::uint64_t start, std::uint64_t end) {
  placed_.remove(start, end);
  unconfirmed_.remove(start, end);
  forget_kept(start, end);
}

void AddressSpace::forget(std::span<const LayoutDelta::Range> unmapped) {
  for (const auto& [start, end] : unmapped) forget_pages(start, end);
  forked_ = without(forked_, unmapped);
}

}  // namespace godwit::engine
