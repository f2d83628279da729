// Checks: shared mappings of a regular file, for reading and for writing: they are still the file, both ways.

#include "tests/workloads/layout.h"
#include "tests/workloads/workload.h"

#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace godwit::workloads;

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr std::size_t size = 32 * 4096;
  std::string content(size, 0);
  fill(content.data(), size, 1);
  const std::string name = w.path("shared file");
  write_file(name, content);
  const int fd = must(open(name.c_str(), O_RDWR | O_CLOEXEC), "open");
  const int reading = must(open(name.c_str(), O_RDONLY | O_CLOEXEC), "open");
  auto* const writable =
      static_cast<char*>(must(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), "mmap"));
  auto* const readable =
      static_cast<char*>(must(mmap(nullptr, size / 2, PROT_READ, MAP_SHARED, reading, size / 2), "mmap"));
  close(reading);
  const std::string before = layout(writable, size) + layout(readable, size / 2);

  w.ready();
  std::uint64_t turn = 0;
  w.wait_for_verify([&] { fill(writable + 20 * 4096, 4096, ++turn + 100); });

  const std::string now = layout(writable, size) + layout(readable, size / 2);
  w.check(now == before, "the mappings were\n%sand are\n%s", before.c_str(), now.c_str());
  char page[4096];
  if (turn > 0) {
    w.check(pread(fd, page, sizeof page, 20 * 4096) == sizeof page && holds(page, sizeof page, turn + 100),
            "the file does not have what was written to its mapping");
    w.check(holds(readable + 4 * 4096, 4096, turn + 100), "the second mapping does not see the first");
  }
  fill(page, sizeof page, 5);
  w.check(pwrite(fd, page, sizeof page, 31 * 4096) == sizeof page && holds(writable + 31 * 4096, 4096, 5) &&
              holds(readable + 15 * 4096, 4096, 5),
          "the mappings do not see what is written to the file");
  w.check(mprotect(readable, size / 2, PROT_READ | PROT_WRITE) == -1,
          "a mapping of a file open for reading can become writable");
  return w.finish();
}
