// Checks: a terabyte of address space, reserved or merely mapped, with a few pages in it that count.

#include "tests/workloads/layout.h"
#include "tests/workloads/workload.h"

#include <sys/mman.h>

using namespace godwit::workloads;

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr std::size_t tib = std::size_t{1} << 40;
  constexpr std::size_t page = 4096;
  constexpr std::size_t spots = 200;
  const auto spot = [](std::size_t i) { return mix(i) % (tib / page) * page; };

  auto* const reserved = static_cast<char*>(
      must(mmap(nullptr, tib, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), "mmap"));
  char* const mapped = map(tib, MAP_NORESERVE);
  for (std::size_t i = 0; i < spots; ++i) {
    if (i % 10 == 0) {
      must(mprotect(reserved + spot(i), page, PROT_READ | PROT_WRITE), "mprotect");
      fill(reserved + spot(i), page, i);
    }
    fill(mapped + spot(i), page, i);
  }
  const std::string before = layout(reserved, tib) + layout(mapped, tib);

  w.ready();
  std::uint64_t turn = 0;
  w.wait_for_verify([&] {
    ++turn;
    fill(mapped + spot(1000 + turn % 100), page, 1000 + turn % 100);
  });
  const std::string now = layout(reserved, tib) + layout(mapped, tib);
  w.check(now == before, "the mappings were\n%sand are\n%s", before.c_str(), now.c_str());
  for (std::size_t i = 0; i < spots; ++i) {
    if (i % 10 == 0) w.check(holds(reserved + spot(i), page, i), "the reserved page %zu changed", i);
    w.check(holds(mapped + spot(i), page, i), "the mapped page %zu changed", i);
    w.check(all_zero(mapped + spot(5000 + i), page), "the empty page %zu is not empty", i);
  }
  for (std::uint64_t t = 1; t <= turn && t < 100; ++t) {
    w.check(holds(mapped + spot(1000 + t), page, 1000 + t), "the page written in turn %llu changed",
            static_cast<unsigned long long>(t));
  }
  return w.finish();
}
