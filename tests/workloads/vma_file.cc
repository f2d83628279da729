// Checks: private file mappings: pages that are the file's, pages that were changed, pages whose change was thrown away
// again, the end of the file within a page and beyond.

#include "tests/workloads/layout.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t file_pages = 16;
constexpr std::size_t tail = 100;
constexpr std::size_t mapped = 20 * page;

char* map_file(int fd, int protection, int flags, off_t offset = 0) {
  return static_cast<char*>(must(mmap(nullptr, mapped, protection, flags, fd, offset), "mmap"));
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::string content(file_pages * page + tail, 0);
  fill(content.data(), content.size(), 1);
  const std::string name = w.path("mapped file");
  write_file(name, content);
  const int fd = must(open(name.c_str(), O_RDWR | O_CLOEXEC), "open");
  const int reading = must(open(name.c_str(), O_RDONLY | O_CLOEXEC), "open");

  char* const changed = map_file(fd, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  char* const clean = map_file(reading, PROT_READ, MAP_PRIVATE);
  char* const shifted = map_file(reading, PROT_READ | PROT_EXEC, MAP_PRIVATE, 5 * page);
  char* const protected_later = map_file(reading, PROT_READ | PROT_WRITE, MAP_PRIVATE);
  char* const writable = map_file(reading, PROT_READ | PROT_WRITE, MAP_PRIVATE, 2 * page);

  fill(changed + page, page, 2);                 // changed before
  fill(changed + 3 * page, 2 * page, 3);         // changed, thrown away later
  changed[file_pages * page + tail + 10] = 'x';  // behind the end of the file, in its last page
  fill(protected_later + 7 * page, page, 4);
  must(mprotect(protected_later, mapped, PROT_READ), "mprotect");
  close(reading);
  const auto whole = [&] {
    return layout(changed, mapped) + layout(clean, mapped) + layout(shifted, mapped) + layout(protected_later, mapped) +
           layout(writable, mapped);
  };
  const std::string before = whole();

  w.ready();
  std::uint64_t turn = 0;
  w.wait_for_verify([&] {
    // Throwing a changed page away brings the file's content back; a tracker of writes does not see that.
    ++turn;
    fill(changed + 6 * page, page, turn);
    fill(writable + 4 * page, page, turn);
    must(madvise(changed + 3 * page, 2 * page, MADV_DONTNEED), "madvise");
    if (turn % 2 == 0) must(madvise(writable + 4 * page, page, MADV_DONTNEED), "madvise");
  });

  const std::string now = whole();
  w.check(now == before, "the mappings were\n%sand are\n%s", before.c_str(), now.c_str());
  w.check(holds(changed + page, page, 2), "a changed page is not as it was changed");
  if (turn > 0) {
    w.check(std::memcmp(changed + 3 * page, &content[3 * page], 2 * page) == 0,
            "a change that was thrown away is back");
    w.check(holds(changed + 6 * page, page, turn), "the page that changes all the time is not the latest");
    w.check(turn % 2 == 0 ? std::memcmp(writable + 4 * page, &content[6 * page], page) == 0
                          : holds(writable + 4 * page, page, turn),
            "the page that is changed and thrown away in turn is not the latest");
  }
  w.check(std::memcmp(changed, content.data(), page) == 0 &&
              std::memcmp(changed + 8 * page, &content[8 * page], 8 * page) == 0,
          "an unchanged page is not the file's");
  w.check(changed[file_pages * page + tail + 10] == 'x' &&
              std::memcmp(changed + file_pages * page, &content[file_pages * page], tail) == 0,
          "the last page is not as it was changed");
  w.check(std::memcmp(clean, content.data(), content.size()) == 0, "the unchanged mapping is not the file's");
  w.check(std::memcmp(shifted, content.data() + 5 * page, content.size() - 5 * page) == 0,
          "the mapping at an offset is not the file's");
  w.check(std::memcmp(protected_later, content.data(), 7 * page) == 0 && holds(protected_later + 7 * page, page, 4),
          "the mapping that became read-only changed");
  // The kernel answers a write(2) from a page behind the end of the file with EFAULT.
  int ends[2];
  must(pipe2(ends, O_CLOEXEC), "pipe2");
  for (const char* start : {changed, clean, protected_later}) {
    w.check(write(ends[1], start + 18 * page, 1) == -1 && errno == EFAULT,
            "there is memory behind the end of the file: %m");
  }
  // What is still the file's follows the file.
  w.check(pwrite(fd, "new", 3, 9 * page) == 3 && std::memcmp(clean + 9 * page, "new", 3) == 0 &&
              std::memcmp(changed + 9 * page, "new", 3) == 0,
          "an unchanged page no longer follows its file");
  return w.finish();
}
