// Checks: each kind of private mapping: its place, permissions and neighbours, and its content even where it could not
// be read while the process was moved.

#include "tests/workloads/layout.h"
#include "tests/workloads/workload.h"

#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t size = 8 * page;

struct Kind {
  const char* name;
  int protection;
};

constexpr Kind kinds[] = {{"read-write", PROT_READ | PROT_WRITE},
                          {"read-only", PROT_READ},
                          {"inaccessible", PROT_NONE},
                          {"write-only", PROT_WRITE},
                          {"executable", PROT_READ | PROT_EXEC},
                          {"execute-only", PROT_EXEC},
                          {"all permissions", PROT_READ | PROT_WRITE | PROT_EXEC}};

// mov eax, 42; ret
constexpr unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr std::size_t count = std::size(kinds);
  // Each with an unmapped page at either side, so that nothing may creep.
  char* const region = map(count * (size + 2 * page));
  char* at[count];
  for (std::size_t i = 0; i < count; ++i) {
    char* const slot = region + i * (size + 2 * page);
    at[i] = slot + page;
    fill(at[i], size, i);
    std::memcpy(at[i], code, sizeof code);
    must(munmap(slot, page), "munmap");
    must(munmap(at[i] + size, page), "munmap");
    must(mprotect(at[i], size, kinds[i].protection), "mprotect");
  }

  // One mapping cut into many by its permissions.
  constexpr std::size_t stripes = 200;
  char* const striped = map(stripes * page);
  for (std::size_t i = 0; i < stripes; ++i) {
    if (i % 7 != 0) fill(striped + i * page, page, 100 + i);
    if (i % 2 != 0) must(mprotect(striped + i * page, page, i % 3 == 0 ? PROT_NONE : PROT_READ), "mprotect");
  }

  // Untouched, only read, filled with zeros, written.
  char* const mixed = map(64 * page);
  for (int i = 16; i < 32; ++i)
    static_cast<void>(*static_cast<volatile char*>(mixed + static_cast<std::size_t>(i) * page));
  std::memset(mixed + 32 * page, 1, 16 * page);
  std::memset(mixed + 32 * page, 0, 16 * page);
  fill(mixed + 48 * page, 16 * page, 7);

  // Huge pages, the lowest possible address, memory from /dev/zero, a mapping with a piece moved elsewhere.
  constexpr std::size_t huge_size = 8 << 20;
  char* const huge = map(huge_size);
  madvise(huge, huge_size, MADV_HUGEPAGE);
  fill(huge, huge_size, 8);
  char* const low = static_cast<char*>(must(mmap(reinterpret_cast<void*>(0x20000), size, PROT_READ | PROT_WRITE,
                                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
                                            "mmap low"));
  fill(low, size, 9);
  const int zero = must(open("/dev/zero", O_RDWR | O_CLOEXEC), "open");
  char* const from_zero =
      static_cast<char*>(must(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0), "mmap"));
  close(zero);
  fill(from_zero, size / 2, 10);
  char* const moved_from = map(size);
  fill(moved_from, size, 11);
  char* const elsewhere = map(3 * size);
  char* const moved = static_cast<char*>(
      must(mremap(moved_from + page, size / 2, size / 2, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere + size), "mremap"));

  const auto whole = [&] {
    return layout(region, count * (size + 2 * page)) + layout(striped, stripes * page) + layout(mixed, 64 * page) +
           layout(huge, huge_size) + layout(low, size) + layout(from_zero, size) + layout(moved_from, size) +
           layout(elsewhere, 3 * size);
  };
  const std::string before = whole();

  w.ready();
  w.wait_for_verify();

  const std::string now = whole();
  w.check(now == before, "the mappings were\n%sand are\n%s", before.c_str(), now.c_str());
  for (const std::size_t i : {std::size_t{4}, std::size_t{5}, std::size_t{6}}) {
    w.check(reinterpret_cast<int (*)()>(at[i])() == 42, "%s memory does not execute", kinds[i].name);
  }
  for (std::size_t i = 0; i < count; ++i) {
    w.check(mprotect(at[i], size, PROT_READ) == 0, "%s memory: mprotect: %m", kinds[i].name);
    char expected[page];
    fill(expected, page, i);
    std::memcpy(expected, code, sizeof code);
    w.check(std::memcmp(at[i], expected, page) == 0 && holds(at[i] + page, size - page, i + page), "%s memory changed",
            kinds[i].name);
  }
  w.check(mprotect(striped, stripes * page, PROT_READ) == 0, "mprotect: %m");
  for (std::size_t i = 0; i < stripes; ++i) {
    const char* const stripe = striped + i * page;
    w.check(i % 7 != 0 ? holds(stripe, page, 100 + i) : all_zero(stripe, page), "stripe %zu changed", i);
  }
  w.check(all_zero(mixed, 48 * page) && holds(mixed + 48 * page, 16 * page, 7), "the partly empty mapping changed");
  w.check(holds(huge, huge_size, 8), "the huge pages changed");
  w.check(holds(low, size, 9), "the mapping at the lowest address changed");
  w.check(holds(from_zero, size / 2, 10) && all_zero(from_zero + size / 2, size / 2),
          "the private mapping of /dev/zero changed");
  w.check(holds(moved, size / 2, 11 + page), "the moved piece changed");
  w.check(holds(moved_from, page, 11), "what was left of the moved piece changed");
  return w.finish();
}
