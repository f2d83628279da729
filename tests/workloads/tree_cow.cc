// Checks: 64 MiB that a child has from its parent's fork: what neither has written since is the same, and what one has
// written is its own.

#include "tests/workloads/children.h"

#include <sys/mman.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t page = 4096, size = 64 << 20, pages = size / page;
constexpr std::size_t child_step = 64, parent_step = 100;

// Each writes every so many pages anew.
void write_own(char* memory, std::size_t step, std::uint64_t seed) {
  for (std::size_t i = 0; i < pages; i += step) fill(memory + i * page, page, seed + i);
}

void check_all(Workload& w, const char* who, const char* memory, std::size_t step, std::uint64_t seed) {
  for (std::size_t i = 0; i < pages; ++i)
    w.check(holds(memory + i * page, page, (i % step == 0 ? seed : 0xc0000) + i), "page %zu of the %s is not its own",
            i, who);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  char* const memory = map(size);
  for (std::size_t i = 0; i < pages; ++i) fill(memory + i * page, page, 0xc0000 + i);
  const Child child = start_child(w, "copy", 8, [&] {
    write_own(memory, child_step, 0xc10000);
    settled(w, "copy");
    w.wait_for_verify([&] { fill(memory, page, 0xc10000); });
    check_all(w, "child", memory, child_step, 0xc10000);
    must(munmap(memory, size / 2), "munmap");
  });
  await_settled(w, "copy");
  write_own(memory, parent_step, 0xc20000);

  w.ready();
  w.wait_for_verify([&] { fill(memory, page, 0xc20000); });
  check_all(w, "parent", memory, parent_step, 0xc20000);
  check_end(w, child);
  check_all(w, "parent alone", memory, parent_step, 0xc20000);
  return w.finish();
}
