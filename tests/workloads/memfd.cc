// Checks: memfds: name, size, holes, seals, mode, offset, descriptor flags; unmapped, mapped once, twice, privately,
// and the second descriptor of one description.

#include "tests/workloads/layout.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t size = 64 * page;

int create(const char* name, unsigned flags) {
  const int fd = must(memfd_create(name, flags), "memfd_create");
  must(ftruncate(fd, size), "ftruncate");
  return fd;
}

char* map_shared(int fd, int protection, off_t offset = 0) {
  return static_cast<char*>(must(mmap(nullptr, size / 2, protection, MAP_SHARED, fd, offset), "mmap"));
}

std::string describe(int fd) {
  struct stat about{};
  fstat(fd, &about);
  char target[256] = {};
  static_cast<void>(!readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof target - 1));
  char text[512];
  std::snprintf(text, sizeof text, "%s size %ld mode %o seals %#x flags %#o/%d offset %ld", target, about.st_size,
                about.st_mode, fcntl(fd, F_GET_SEALS), fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), lseek(fd, 0, SEEK_CUR));
  return text;
}

// Of a mapping whose descriptor is closed.
std::string describe_mapped(const char* at, std::size_t length) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", reinterpret_cast<unsigned long>(at),
                reinterpret_cast<unsigned long>(at) + length);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "hidden";  // from anybody but root
  const std::string text = describe(fd);
  close(fd);
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int unmapped = create("not mapped", MFD_CLOEXEC);
  std::string content(size, 0);
  fill(content.data(), 10 * page, 1);
  must(pwrite(unmapped, content.data(), 10 * page, 20 * page), "pwrite");
  must(lseek(unmapped, 12345, SEEK_SET), "lseek");

  const int twice = create("twice", 0);
  char* const first = map_shared(twice, PROT_READ | PROT_WRITE);
  char* const second = map_shared(twice, PROT_READ, size / 4);
  fill(first, size / 2, 2);
  const int same = must(dup(twice), "dup");
  must(lseek(same, 77, SEEK_SET), "lseek");
  must(fchmod(twice, 0640), "fchmod");

  const int sealed = create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
  fill(content.data(), size, 3);
  must(pwrite(sealed, content.data(), size, 0), "pwrite");
  must(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL), "F_ADD_SEALS");
  char* const sealed_view = map_shared(sealed, PROT_READ);

  const int future = create("future", MFD_ALLOW_SEALING | MFD_CLOEXEC);
  char* const old_view = map_shared(future, PROT_READ | PROT_WRITE);  // made before the seal, stays writable
  must(fcntl(future, F_ADD_SEALS, 0x10 /* F_SEAL_FUTURE_WRITE */), "F_ADD_SEALS");
  fill(old_view, size / 2, 4);
  char* const late_view = map_shared(future, PROT_READ);  // can never be written

  const int no_exec = memfd_create("no exec", 8 /* MFD_NOEXEC_SEAL, 6.3+ */);
  if (no_exec >= 0) must(ftruncate(no_exec, 5000), "ftruncate");

  const int nameless = create("", 0);
  must(pwrite(nameless, "x", 1, 3 * page), "pwrite");

  const int base = create("private", MFD_CLOEXEC);
  fill(content.data(), size, 5);
  must(pwrite(base, content.data(), size, 0), "pwrite");
  auto* const copy =
      static_cast<char*>(must(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, base, 0), "mmap"));
  fill(copy + 3 * page, page, 6);

  auto* const orphan = [] {  // the descriptor is closed, the mapping stays
    const int fd = create("closed", MFD_ALLOW_SEALING);
    char* const at = map_shared(fd, PROT_READ | PROT_WRITE);
    must(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), "F_ADD_SEALS");
    must(fchmod(fd, 0604), "fchmod");
    close(fd);
    return at;
  }();
  fill(orphan, size / 2, 7);

  const int fds[] = {unmapped, twice, same, sealed, future, base, nameless, no_exec};
  std::string before[std::size(fds)];
  for (std::size_t i = 0; i < std::size(fds); ++i) before[i] = describe(fds[i]);
  const auto mappings = [&] {
    return layout(first, size / 2) + layout(second, size / 2) + layout(sealed_view, size / 2) +
           layout(old_view, size / 2) + layout(late_view, size / 2) + layout(copy, size) + layout(orphan, size / 2) +
           describe_mapped(orphan, size / 2);
  };
  const std::string mappings_before = mappings();

  w.ready();
  w.wait_for_verify();

  for (std::size_t i = 0; i < std::size(fds); ++i) {
    if (fds[i] < 0) continue;
    const std::string now = describe(fds[i]);
    w.check(now == before[i], "a memfd was %s and is %s", before[i].c_str(), now.c_str());
  }
  const std::string mappings_now = mappings();
  w.check(mappings_now == mappings_before, "the mappings were\n%sand are\n%s", mappings_before.c_str(),
          mappings_now.c_str());

  w.check(pread(unmapped, content.data(), size, 0) == size, "pread: %m");
  w.check(all_zero(content.data(), 20 * page) && holds(&content[20 * page], 10 * page, 1) &&
              all_zero(&content[30 * page], 34 * page),
          "the unmapped memfd's content changed");
  w.check(lseek(nameless, 0, SEEK_DATA) == 3 * page, "the memfd without a name changed");
  w.check(lseek(unmapped, 0, SEEK_DATA) == 20 * page && lseek(unmapped, 20 * page, SEEK_HOLE) == 30 * page,
          "the unmapped memfd's holes changed");
  w.check(holds(first, size / 2, 2) && std::memcmp(second, first + size / 4, size / 4) == 0,
          "the memfd mapped twice changed");
  w.check(pwrite(same, "seen", 4, size / 4) == 4 && std::memcmp(second, "seen", 4) == 0 &&
              std::memcmp(first + size / 4, "seen", 4) == 0,
          "what is written to the descriptor is not in its mappings");
  lseek(twice, 99, SEEK_SET);
  w.check(lseek(same, 0, SEEK_CUR) == 99, "a duplicated descriptor has its own offset now");
  w.check(holds(sealed_view, size / 2, 3), "the sealed memfd's content changed");
  w.check(pwrite(sealed, "x", 1, 0) == -1 && errno == EPERM && ftruncate(sealed, 0) == -1,
          "the sealed memfd can be written");
  w.check(holds(old_view, size / 2, 4) && pwrite(future, "x", 1, 0) == -1 && errno == EPERM,
          "the memfd sealed against new writers changed");
  old_view[0] = 1;
  // smaps shows no "sh" for these after a move (layout() leaves it out): all that it could tell is still so.
  for (char* const view : {sealed_view, late_view}) {
    w.check(mprotect(view, size / 2, PROT_READ | PROT_WRITE) == -1 && errno == EACCES,
            "a sealed memfd can be made writable");
    w.check(madvise(view, page, MADV_REMOVE) == -1 && errno == EACCES, "holes can be punched in a sealed memfd");
    w.check(msync(view, size / 2, MS_SYNC) == 0, "msync of a sealed memfd: %m");
    void* const again = mremap(view, 0, page, MREMAP_MAYMOVE);  // a second mapping, of shared memory only
    w.check(again != MAP_FAILED && std::memcmp(again, view, page) == 0, "a sealed memfd is not mapped shared any more");
  }
  w.check(late_view[0] == 1 && std::memcmp(late_view, old_view, size / 2) == 0,
          "what is written through one mapping of a memfd is not in another");
  w.check(
      holds(copy + 3 * page, page, 6) && holds(copy, 3 * page, 5) && holds(copy + 4 * page, 60 * page, 5 + 4 * page),
      "the private mapping of a memfd changed");
  w.check(pwrite(base, "b", 1, 9 * page) == 1 && copy[9 * page] == 'b',
          "the private mapping is no longer one of its memfd");
  w.check(holds(orphan, size / 2, 7), "the mapping whose descriptor is closed changed");
  return w.finish();
}
