// Checks: private anonymous memory, byte for byte, while one thread keeps writing to it.

#include "tests/workloads/workload.h"

#include <vector>

using namespace godwit::workloads;

#ifdef __SANITIZE_ADDRESS__
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifdef WITH_ASAN
// LeakSanitizer stops its own process by ptrace, which fails when the process is already traced.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }
#endif

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr std::size_t page = 4096;
  constexpr std::size_t pages = 4096;
  std::vector<std::uint64_t> generation(pages);
  std::vector<char> memory(pages * page);
  const auto write_page = [&](std::size_t i) { fill(&memory[i * page], page, mix(i) + mix(generation[i])); };
  for (std::size_t i = 0; i < pages; ++i) write_page(i);

  w.ready();
  std::size_t next = 0;
  w.wait_for_verify([&] {
    for (int n = 0; n < 32; ++n) {
      ++generation[next];
      write_page(next);
      next = (next * 5 + 1) % pages;  // visits every page
    }
  });

  for (std::size_t i = 0; i < pages; ++i) {
    w.check(holds(&memory[i * page], page, mix(i) + mix(generation[i])), "page %zu is not of generation %llu", i,
            static_cast<unsigned long long>(generation[i]));
  }
  return w.finish();
}
