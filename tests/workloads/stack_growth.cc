// Checks: the main stack and a MAP_GROWSDOWN mapping keep their content and still grow.

#include "tests/workloads/layout.h"
#include "tests/workloads/workload.h"

#include <sys/mman.h>

using namespace godwit::workloads;

namespace {

// Uses about `depth` x 16 KiB of the stack; false when a frame changed while deeper ones were used.
__attribute__((noinline)) bool descend(std::uint64_t depth, const auto& at_the_end) {
  char frame[16 * 1024];
  fill(frame, sizeof frame, depth);
  const bool deeper = depth == 0 ? at_the_end() : descend(depth - 1, at_the_end);
  return holds(frame, sizeof frame, depth) && deeper;
}

constexpr std::size_t page = 4096;

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  // A growing mapping needs room below it.
  constexpr std::size_t room = 64 << 20;
  char* const reserved = map(room, MAP_NORESERVE);
  must(munmap(reserved, room), "munmap");
  char* const growing =
      static_cast<char*>(must(mmap(reserved + room - 4 * page, 4 * page, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1, 0),
                              "mmap"));
  fill(growing, 4 * page, 1);

  w.ready();
  // Frozen 1 MiB deep, then 5 MiB deeper.
  const bool kept = descend(64, [&] {
    w.wait_for_verify();
    return descend(320, [] { return true; });
  });
  w.check(kept, "a frame of the main stack changed");
  w.check(holds(growing, 4 * page, 1), "the growing mapping changed");
  for (std::size_t i = 1; i <= 300; ++i) fill(growing - i * page, page, i);
  for (std::size_t i = 1; i <= 300; ++i) w.check(holds(growing - i * page, page, i), "page %zu below changed", i);
  w.check(layout(growing - 300 * page, 304 * page).find(" gd") != std::string::npos,
          "the mapping does not grow down any more");
  return w.finish();
}
