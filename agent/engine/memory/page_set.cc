#include "agent/engine/memory/page_set.h"

#include <algorithm>

namespace godwit::engine {

template <class Update>
void PageSet::update(std::uint64_t start, std::uint64_t end, bool create, Update&& f) {
  while (start < end) {
    const std::uint64_t key = start / chunk_bytes;
    const std::uint64_t stop = std::min(end, (key + 1) * chunk_bytes);
    auto it = chunks_.find(key);
    if (it == chunks_.end()) {
      if (!create) {
        // Skip what is not there at once: the range may span terabytes.
        it = chunks_.lower_bound(key);
        if (it == chunks_.end()) return;
        start = std::max(start, it->first * chunk_bytes);
        continue;
      }
      it = chunks_.try_emplace(key).first;
    }
    Chunk& chunk = it->second;
    const std::size_t before = chunk.count();
    const std::size_t first = (start - key * chunk_bytes) / page_size, last = (stop - key * chunk_bytes) / page_size;
    if (first == 0 && last == 512) {
      f(chunk);
    } else {
      for (std::size_t i = first; i < last; i++) f(chunk, i);
    }
    size_ = size_ - before + chunk.count();
    if (chunk.none()) chunks_.erase(it);
    start = stop;
  }
}

namespace {
struct SetBits {
  void operator()(std::bitset<512>& c) const { c.set(); }
  void operator()(std::bitset<512>& c, std::size_t i) const { c.set(i); }
};
struct ClearBits {
  void operator()(std::bitset<512>& c) const { c.reset(); }
  void operator()(std::bitset<512>& c, std::size_t i) const { c.reset(i); }
};
}  // namespace

void PageSet::add(std::uint64_t start, std::uint64_t end) { update(start, end, true, SetBits{}); }
void PageSet::remove(std::uint64_t start, std::uint64_t end) { update(start, end, false, ClearBits{}); }

bool PageSet::contains(std::uint64_t page) const {
  const auto it = chunks_.find(page / chunk_bytes);
  return it != chunks_.end() && it->second.test(page % chunk_bytes / page_size);
}

bool PageSet::intersects(std::uint64_t start, std::uint64_t end) const {
  for (auto it = chunks_.lower_bound(start / chunk_bytes); it != chunks_.end() && it->first * chunk_bytes < end; ++it)
    for (std::size_t i = 0; i < 512; i++) {
      const std::uint64_t page = it->first * chunk_bytes + i * page_size;
      if (page >= start && page < end && it->second.test(i)) return true;
    }
  return false;
}

void PageSet::clear() {
  chunks_.clear();
  size_ = 0;
}

std::vector<pagewire::Run> PageSet::runs(std::uint64_t start, std::uint64_t end) const {
  std::vector<pagewire::Run> out;
  for (auto it = chunks_.lower_bound(start / chunk_bytes); it != chunks_.end() && it->first * chunk_bytes < end; ++it)
    for (std::size_t i = 0; i < 512; i++) {
      const std::uint64_t page = it->first * chunk_bytes + i * page_size;
      if (page < start || page >= end || !it->second.test(i)) continue;
      if (!out.empty() && out.back().address + out.back().pages * page_size == page)
        out.back().pages++;
      else
        out.push_back({page, 1});
    }
  return out;
}

}  // namespace godwit::engine
