// Checks: a memfd whose content changes all the time, by write(2), through another mapping, by punched holes and by
// changes of its size: ways that no tracker of page tables sees. One page of it nobody changes.

#include "tests/workloads/workload.h"

#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr std::size_t page = 4096, pages = 512;
  const int fd = must(memfd_create("live", MFD_CLOEXEC), "memfd_create");
  must(ftruncate(fd, pages * page), "ftruncate");
  auto* const read_view = static_cast<char*>(must(mmap(nullptr, pages * page, PROT_READ, MAP_SHARED, fd, 0), "mmap"));
  auto* const write_view =
      static_cast<char*>(must(mmap(nullptr, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), "mmap"));
  constexpr std::uint64_t quiet_seed = 0x1000000000;  // of the page before the others, which stays as it is
  fill(write_view, page, quiet_seed);
  std::vector<std::uint64_t> seeds(pages);  // 0: empty
  std::uint64_t turn = 0;
  const auto change = [&] {
    const std::size_t i = 1 + mix(++turn) % (pages - 1);
    char* const at = write_view + i * page;
    switch (mix(turn) >> 60 & 3) {
      case 0: {
        char content[page];
        fill(content, page, seeds[i] = turn);
        must(pwrite(fd, content, page, static_cast<off_t>(i * page)), "pwrite");
        break;
      }
      case 1: fill(at, page, seeds[i] = turn); break;
      case 2:
        must(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(i * page), page),
             "fallocate");
        seeds[i] = 0;
        break;
      default:
        if (i < pages - 8) break;
        must(ftruncate(fd, static_cast<off_t>(i * page)), "ftruncate");
        must(ftruncate(fd, pages * page), "ftruncate");
        for (std::size_t gone = i; gone < pages; ++gone) seeds[gone] = 0;
    }
  };
  for (int n = 0; n < 2000; ++n) change();

  w.ready();
  w.wait_for_verify([&] {
    for (int n = 0; n < 200; ++n) change();
  });
  w.check(holds(write_view, page, quiet_seed), "the page that nobody changes is another");
  for (std::size_t i = 1; i < pages; ++i) {
    const char* const at = read_view + i * page;
    w.check(seeds[i] == 0 ? all_zero(at, page) : holds(at, page, seeds[i]), "page %zu is not that of turn %llu", i,
            static_cast<unsigned long long>(seeds[i]));
  }
  w.check(std::memcmp(read_view, write_view, pages * page) == 0, "the two mappings differ");
  w.check(lseek(fd, 0, SEEK_END) == pages * page, "the size is %ld", lseek(fd, 0, SEEK_END));
  return w.finish();
}
