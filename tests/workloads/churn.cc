// Checks: the memory of a hostile program: threads that allocate and free, grow and move mappings, flip permissions,
// grow the heap and dig into their stacks; every block carries its checksum and is checked whenever it is touched.

#include "tests/workloads/workload.h"

#include <cstdlib>
#include <list>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

constexpr std::size_t page = 4096;

struct Block {
  char* at = nullptr;
  std::size_t size = 0;
  std::uint64_t seed = 0;
  bool good() const { return holds(at, size, seed); }
};

void churn_heap(Workload& w, std::uint64_t seed, const std::atomic<bool>& stop) {
  std::vector<Block> blocks(300);
  for (std::uint64_t turn = seed << 32; !stop; ++turn) {
    Block& block = blocks[mix(turn) % blocks.size()];
    w.check(block.good(), "a heap block of %zu bytes changed", block.size);
    const std::size_t size = 1 + (mix(turn) >> 20) % ((mix(turn) >> 50) % 50 == 0 ? 300'000 : 3'000);
    if ((mix(turn) >> 60) % 3 == 0 && block.at != nullptr) {
      const std::size_t kept = size < block.size ? size : block.size;
      block.at = static_cast<char*>(std::realloc(block.at, size));
      w.check(holds(block.at, kept, block.seed), "a heap block changed when it was resized from %zu to %zu", block.size,
              size);
    } else {
      std::free(block.at);
      block.at = static_cast<char*>(std::malloc(size));
    }
    block.size = size;
    fill(block.at, size, block.seed = turn);
  }
  for (const Block& block : blocks) {
    w.check(block.good(), "a heap block of %zu bytes changed", block.size);
    std::free(block.at);
  }
}

void churn_mappings(Workload& w, std::uint64_t seed, const std::atomic<bool>& stop) {
  std::vector<Block> blocks(40);
  for (std::uint64_t turn = seed << 32; !stop; ++turn) {
    Block& block = blocks[mix(turn) % blocks.size()];
    const std::size_t size = (1 + (mix(turn) >> 20) % 60) * page;
    w.check(block.good(), "a mapping of %zu bytes changed", block.size);
    if (block.at == nullptr) {
      block = {map(size), size, turn};
      fill(block.at, size, turn);
    } else if ((mix(turn) >> 60) % 4 == 0) {
      must(munmap(block.at, block.size), "munmap");
      block = {};
    } else {
      const std::size_t kept = size < block.size ? size : block.size;
      block.at = static_cast<char*>(must(mremap(block.at, block.size, size, MREMAP_MAYMOVE), "mremap"));
      w.check(holds(block.at, kept, block.seed) && all_zero(block.at + kept, size - kept),
              "a mapping changed when it was resized");
      fill(block.at, block.size = size, block.seed = turn);
    }
  }
  for (const Block& block : blocks) w.check(block.good(), "a mapping of %zu bytes changed", block.size);
}

void flip_permissions(Workload& w, const std::atomic<bool>& stop) {
  constexpr std::size_t pages = 128;
  char* const memory = map(pages * page);
  std::vector<std::uint64_t> seeds(pages);
  for (std::size_t i = 0; i < pages; ++i) fill(memory + i * page, page, seeds[i] = i);
  constexpr int protections[] = {PROT_NONE, PROT_READ, PROT_WRITE, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE};
  for (std::uint64_t turn = 1; !stop; ++turn) {
    const std::size_t i = mix(turn) % pages;
    char* const at = memory + i * page;
    must(mprotect(at, page, PROT_READ | PROT_WRITE), "mprotect");
    w.check(holds(at, page, seeds[i]), "page %zu changed while its permissions did", i);
    fill(at, page, seeds[i] = turn << 20);
    must(mprotect(at, page, protections[turn % std::size(protections)]), "mprotect");
  }
  must(mprotect(memory, pages * page, PROT_READ), "mprotect");
  for (std::size_t i = 0; i < pages; ++i)
    w.check(holds(memory + i * page, page, seeds[i]), "page %zu of changing permissions changed", i);
}

__attribute__((noinline)) bool dig(std::uint64_t seed, int depth) {
  char frame[3000];
  fill(frame, sizeof frame, seed + static_cast<std::uint64_t>(depth));
  return (depth == 0 || dig(seed, depth - 1)) && holds(frame, sizeof frame, seed + static_cast<std::uint64_t>(depth));
}

void churn_stack(Workload& w, const std::atomic<bool>& stop) {
  for (std::uint64_t turn = 1; !stop; ++turn) {
    w.check(dig(turn, static_cast<int>(mix(turn) % 500)), "a frame of a thread's stack changed");
  }
}

void grow_heap(Workload& w, const std::atomic<bool>& stop) {
  std::vector<Block> blocks;
  for (std::uint64_t turn = 1; !stop; ++turn) {
    if (blocks.size() < 500) {
      const Block block{static_cast<char*>(must(sbrk(8192), "sbrk")), 8192, turn << 40};
      fill(block.at, block.size, block.seed);
      blocks.push_back(block);
    }
    const Block& block = blocks[mix(turn) % blocks.size()];
    w.check(block.good(), "the heap's part at %p changed", static_cast<void*>(block.at));
    fill(block.at, block.size, block.seed);
    pause_for(0.001);
  }
  for (const Block& block : blocks)
    w.check(block.good(), "the heap's part at %p changed", static_cast<void*>(block.at));
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::atomic<bool> stop = false;
  std::list<std::thread> threads;
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    threads.emplace_back([&w, &stop, seed] { churn_heap(w, seed, stop); });
    threads.emplace_back([&w, &stop, seed] { churn_mappings(w, seed + 10, stop); });
  }
  threads.emplace_back([&] { flip_permissions(w, stop); });
  threads.emplace_back([&] { churn_stack(w, stop); });
  threads.emplace_back([&] { grow_heap(w, stop); });
  pause_for(0.1);

  w.ready();
  w.wait_for_verify();
  pause_for(0.1);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  return w.finish();
}
