// A sparse set of pages of one object, by address. Cheap for dense ranges and for terabytes of nothing.
#pragma once

#include "common/base/units.h"
#include "common/pagewire/frame.h"

#include <bitset>
#include <cstdint>
#include <map>
#include <vector>

namespace godwit::engine {

class PageSet {
 public:
  void add(std::uint64_t start, std::uint64_t end);
  void remove(std::uint64_t start, std::uint64_t end);
  bool contains(std::uint64_t page) const;
  bool intersects(std::uint64_t start, std::uint64_t end) const;
  std::uint64_t size() const { return size_; }  // pages
  void clear();

  // The members in [start, end), as maximal ascending runs.
  std::vector<pagewire::Run> runs(std::uint64_t start = 0, std::uint64_t end = ~0ull) const;

 private:
  static constexpr std::uint64_t chunk_bytes = 512 * page_size;
  using Chunk = std::bitset<512>;
  template <class Update>
  void update(std::uint64_t start, std::uint64_t end, bool create, Update&& f);

  std::map<std::uint64_t, Chunk> chunks_;  // by address / chunk_bytes
  std::uint64_t size_ = 0;
};

}  // namespace godwit::engine
