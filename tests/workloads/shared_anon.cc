// Checks: anonymous shared memory: its content, two views of the same memory, a view of a part, holes, and that a
// child still shares it.

#include "tests/workloads/layout.h"
#include "tests/workloads/workload.h"

#include <string>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

using namespace godwit::workloads;

namespace {

// CRIU dumps this memory as memfds of its name, and makes it as memfds without one.
std::string without_names(std::string text) {
  for (std::size_t at = 0; (at = text.find(" /", at)) != std::string::npos;)
    text.erase(at, text.find(" (deleted)", at) - at);
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr std::size_t page = 4096, pages = 256, size = pages * page;
  const auto shared = [](std::size_t bytes) {
    return static_cast<char*>(
        must(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), "mmap"));
  };
  char* const memory = shared(size);
  for (std::size_t i = 0; i < pages; i += 2) fill(memory + i * page, page, i);
  // With an old size of zero mremap makes a second view; here from the tenth page on.
  auto* const view = static_cast<char*>(must(mremap(memory + 10 * page, 0, 20 * page, MREMAP_MAYMOVE), "mremap"));
  must(mprotect(view + 10 * page, 10 * page, PROT_READ), "mprotect");
  // Of this one only the middle is left.
  char* const middle = shared(size);
  fill(middle, size, 5);
  must(munmap(middle, 64 * page), "munmap");
  must(munmap(middle + 128 * page, 128 * page), "munmap");
  char* const other = shared(size);  // never touched
  const auto mappings = [&] {
    std::string all = layout(memory, size) + layout(view, 20 * page) + layout(middle, size) + layout(other, size);
    return w.beside_criu() ? without_names(std::move(all)) : all;
  };
  const std::string before = mappings();

  w.ready();
  std::uint64_t turn = 0;
  w.wait_for_verify([&] {
    fill(view + 4 * page, page, ++turn + 1000);
    if (turn % 3 == 0) must(madvise(memory + 40 * page, page, MADV_REMOVE), "MADV_REMOVE");
    if (turn % 3 == 1) fill(memory + 40 * page, page, turn);
  });

  const std::string now = mappings();
  if (!w.check(now == before, "the mappings were\n%sand are\n%s", before.c_str(), now.c_str())) return w.finish();
  for (std::size_t i = 0; i < pages; ++i) {
    if (i == 14 || i == 40) continue;
    w.check(i % 2 == 0 ? holds(memory + i * page, page, i) : all_zero(memory + i * page, page), "page %zu changed", i);
  }
  if (turn > 0) {
    w.check(holds(memory + 14 * page, page, turn + 1000), "what was written to one view is not in the other");
    const bool removed = turn % 3 == 0;
    w.check(
        removed ? all_zero(memory + 40 * page, page) : holds(memory + 40 * page, page, turn % 3 == 1 ? turn : turn - 1),
        "the page that is removed and written in turn is not the latest");
  }
  w.check(holds(middle + 64 * page, 64 * page, 5 + 64 * page), "the middle piece changed");
  w.check(all_zero(other, size), "the untouched memory is not empty");
  memory[14 * page] = memory[20 * page] = 'n';
  w.check(view[4 * page] == 'n' && view[10 * page] == 'n', "the two views are two memories");
  const pid_t child = fork();
  if (child == 0) {
    memory[0] = 'c';
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  w.check(memory[0] == 'c', "a child no longer shares the memory");
  return w.finish();
}
