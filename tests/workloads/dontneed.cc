// Checks: memory that a thread writes, gives back (MADV_DONTNEED), moves (mremap, with and
// without MREMAP_DONTUNMAP) and maps anew all the time. Catches what a tracker of dirty pages may miss.

#include "tests/workloads/workload.h"

#include <sys/mman.h>
#include <thread>
#include <vector>

using namespace godwit::workloads;

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t pages = 64;  // of one region

struct Region {
  char* at = nullptr;
  std::vector<std::uint64_t> seeds = std::vector<std::uint64_t>(pages);  // 0: never written, or given back

  void check(Workload& w, std::size_t first, std::size_t count) const {
    for (std::size_t i = first; i < first + count; ++i) {
      w.check(seeds[i] == 0 ? all_zero(at + i * page, page) : holds(at + i * page, page, seeds[i]),
              "page %zu is not as %s", i, seeds[i] == 0 ? "given back" : "last written");
    }
  }
};

// Moves a region page by page: it consists of many mappings by then, and one call moves only one of them. (6.17+ moves
// several, but not while they are tracked: docs/engine.md.)
char* move(char* from, int extra_flags) {
  char* const target = map(pages * page);
  for (std::size_t at = 0; at < pages * page; at += page)
    must(mremap(from + at, page, page, MREMAP_MAYMOVE | MREMAP_FIXED | extra_flags, target + at), "mremap");
  return target;
}

void change(Workload& w, Region& region, std::uint64_t turn) {
  const std::uint64_t dice = mix(turn);
  const std::size_t first = dice % pages;
  const std::size_t count = 1 + (dice >> 16) % (pages - first < 8 ? pages - first : 8);
  char* const at = region.at + first * page;
  region.check(w, first, count);
  const auto forget = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i) region.seeds[i] = 0;
  };
  switch (dice >> 32 & 15) {
    case 0:
    case 1: must(madvise(at, count * page, MADV_DONTNEED), "MADV_DONTNEED"); return forget(first, first + count);
    case 2: region.at = move(region.at, 0); return;
    case 3: {  // leaves an empty mapping behind; one of the two is kept
      char* const target = move(region.at, MREMAP_DONTUNMAP);
      if ((dice >> 40 & 1) != 0) {
        must(munmap(region.at, pages * page), "munmap");
        region.at = target;
      } else {
        must(munmap(target, pages * page), "munmap");
        forget(0, pages);
      }
      return;
    }
    case 4:  // the same addresses, another mapping
      must(munmap(at, count * page), "munmap");
      must(mmap(at, count * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
           "mmap");
      return forget(first, first + count);
    case 5:
      must(mmap(at, count * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), "mmap over");
      return forget(first, first + count);
    case 6:  // read only for a moment
      must(mprotect(at, count * page, PROT_READ), "mprotect");
      must(mprotect(at, count * page, PROT_READ | PROT_WRITE), "mprotect");
      return;
    default:
      for (std::size_t i = first; i < first + count; ++i)
        fill(region.at + i * page, page, region.seeds[i] = turn * pages + i);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> turns = 0;
  std::vector<Region> regions(16);
  for (Region& region : regions) region.at = map(pages * page);
  std::thread changer([&] {
    for (std::uint64_t turn = 1; !stop; ++turn) {
      change(w, regions[turn % regions.size()], turn);
      turns = turn;
    }
  });
  while (turns < 2000) pause_for(0.001);

  w.ready();
  w.wait_for_verify();
  const std::uint64_t before = turns;
  w.check(w.wait_until([&] { return turns > before; }), "the changing thread does not run any more");
  stop = true;
  changer.join();
  for (const Region& region : regions) region.check(w, 0, pages);
  return w.finish();
}
