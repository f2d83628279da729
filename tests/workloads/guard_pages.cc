// Checks: guard regions (MADV_GUARD_INSTALL, 6.13+) inside a mapping: still there, and their neighbours keep their
// content.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace godwit::workloads;

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr int install = 102, remove = 103;
  constexpr std::size_t page = 4096, pages = 32;
  char* const memory = map(pages * page);
  fill(memory, pages * page, 1);
  const auto guarded = [](std::size_t i) { return i == 0 || i == 9 || i == 10 || i == 31; };
  bool known = true;
  for (std::size_t i = 0; i < pages; ++i) {
    if (guarded(i) && madvise(memory + i * page, page, install) != 0) known = false;
  }
  if (!known) std::fprintf(stderr, "this kernel has no guard regions: %m\n");
  int ends[2];
  must(pipe2(ends, O_CLOEXEC), "pipe2");

  w.ready();
  w.wait_for_verify();
  for (std::size_t i = 0; i < pages; ++i) {
    if (guarded(i)) {
      if (!known) continue;
      w.check(write(ends[1], memory + i * page, 1) == -1 && errno == EFAULT, "page %zu is no guard any more", i);
      w.check(madvise(memory + i * page, page, remove) == 0 && all_zero(memory + i * page, page),
              "the guard at %zu cannot be removed", i);
    } else {
      w.check(holds(memory + i * page, page, 1 + i * page), "page %zu changed", i);
    }
  }
  return w.finish();
}
