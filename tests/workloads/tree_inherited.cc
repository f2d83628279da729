// Checks: what a child has made of the mappings that it has from its parent, which has other content at the same place:
// pages that it has dropped, parts that it has unmapped, mapped anew, moved, protected, guarded, locked or outgrown,
// and what it has not got at all (MADV_DONTFORK, MADV_WIPEONFORK). In the end it changes more, while it is moved.

#include "tests/workloads/children.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <sys/mman.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t page = 4096, pages = 32, area = pages * page;

// An area, and what each of its pages holds in this process.
struct Area {
  const char* name;
  char* at;
  std::uint64_t seeds[pages];  // 0: zeros

  void write(std::size_t i, std::uint64_t seed) {
    fill(at + i * page, page, seed);
    seeds[i] = seed;
  }
  void is_zero(std::size_t i) { seeds[i] = 0; }
  void check(Workload& w, const char* who) const {
    for (std::size_t i = 0; i < pages; i++)
      w.check(seeds[i] ? holds(at + i * page, page, seeds[i]) : all_zero(at + i * page, page),
              "page %zu of what is %s is not the %s's", i, name, who);
  }
};

Area new_area(const char* name, std::uint64_t seed) {
  Area a{name, map(area + page), {}};
  must(mprotect(a.at + area, page, PROT_NONE), "mprotect");  // so that no two are one mapping
  for (std::size_t i = 0; i < pages; i++) a.write(i, seed + i);
  return a;
}

// With as much room behind it to grow into.
Area area_with_room(const char* name, std::uint64_t seed) {
  Area a{name, map(2 * area), {}};
  must(mprotect(a.at + area, area, PROT_NONE), "mprotect");
  for (std::size_t i = 0; i < pages; i++) a.write(i, seed + i);
  return a;
}

// What is in the new part.
Area grow(const Area& a, std::uint64_t seed) {
  must(munmap(a.at + area, area), "munmap");
  must(mremap(a.at, area, 2 * area, 0), "mremap");
  Area above{"above", a.at + area, {}};
  above.write(1, seed);
  return above;
}

// Of a whole mapping only: the kernel resizes no two.
bool is_one_mapping(const Area& a) { return mremap(a.at, 2 * area, 3 * area, MREMAP_MAYMOVE) != MAP_FAILED; }

char* map_at(char* at, std::size_t bytes) {
  return static_cast<char*>(
      must(mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), "mmap"));
}

struct File {
  char* at;
  void check(Workload& w, const char* who, std::uint64_t first, std::uint64_t second) const {
    w.check(holds(at, page, first), "the first page of the file is not the %s's", who);
    w.check(holds(at + page, page, second), "the second page of the file is not the %s's", who);
  }
};

File map_file(const std::string& path) {
  const int fd = must(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600), "open");
  static char content[2 * page];
  fill(content, page, 0xf1);
  fill(content + page, page, 0xf2);
  must(write(fd, content, sizeof content), "write");
  const File file{
      static_cast<char*>(must(mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), "mmap"))};
  close(fd);
  return file;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  constexpr int install_guard = 102, remove_guard = 103;
  int ends[2];
  must(pipe2(ends, O_CLOEXEC), "pipe2");
  Area dropped = new_area("dropped", 0x1000), replaced = new_area("replaced", 0x2000),
       moved = new_area("moved", 0x3000), kept_shut = new_area("shut", 0x4000), guarded = new_area("guarded", 0x5000),
       locked = new_area("locked", 0x6000), zeroed = new_area("zeroed", 0x7000), wiped = new_area("wiped", 0x8000),
       missing = new_area("missing", 0x9000), busy = new_area("busy", 0xa000);
  const File file = map_file(w.path("file"));
  Area grown = area_with_room("grown", 0xb000), outgrown = area_with_room("outgrown", 0xc000);
  fill(file.at, page, 0xf3);
  fill(file.at + page, page, 0xf4);
  must(madvise(wiped.at, area, MADV_WIPEONFORK), "madvise");
  must(madvise(missing.at, area, MADV_DONTFORK), "madvise");

  const Child child = start_child(w, "heir", 8, [&] {
    map_at(missing.at, area);  // before another mapping takes its place
    for (const std::size_t i : {0, 1, 2, 17}) dropped.is_zero(i);
    must(madvise(dropped.at, 3 * page, MADV_DONTNEED), "madvise");
    must(madvise(dropped.at + 17 * page, page, MADV_DONTNEED), "madvise");
    map_at(replaced.at + 8 * page, 8 * page);
    for (std::size_t i = 8; i < 16; i++) i % 2 ? replaced.write(i, 0xc2000 + i) : replaced.is_zero(i);
    moved.at =
        static_cast<char*>(must(mremap(moved.at, area, area, MREMAP_MAYMOVE | MREMAP_FIXED, map(area)), "mremap"));
    kept_shut.write(5, 0xc4005);
    must(mprotect(kept_shut.at + 4 * page, 4 * page, PROT_NONE), "mprotect");
    const bool guards = madvise(guarded.at + 3 * page, page, install_guard) == 0;
    if (guards) guarded.is_zero(3);
    locked.write(9, 0xc6009);
    must(mlock(locked.at, area), "mlock");
    memset(zeroed.at + 2 * page, 0, page);
    zeroed.is_zero(2);
    for (std::size_t i = 0; i < pages; i++) wiped.is_zero(i);
    wiped.write(6, 0xc8006);
    for (std::size_t i = 0; i < pages; i++) i % 2 ? missing.write(i, 0xc9000 + i) : missing.is_zero(i);
    Area above = grow(grown, 0xcb001);
    must(madvise(outgrown.at + 4 * page, page, MADV_DONTNEED), "madvise");
    outgrown.is_zero(4);
    std::optional<Area> outgrown_above;
    const auto outgrow = [&] { outgrown_above = grow(outgrown, 0xcc001); };
    must(madvise(file.at, page, MADV_DONTNEED), "madvise");
    settled(w, "heir");

    std::size_t turn = 0;
    w.wait_for_verify([&] {
      if (!outgrown_above && w.asked("grow")) {
        outgrow();
        w.tell("grow.done", "");
      }
      const std::size_t i = turn++ % pages;
      if (turn % 7 == 0)
        map_at(busy.at + i * page, page);
      else
        must(madvise(busy.at + i * page, page, MADV_DONTNEED), "madvise");
      busy.is_zero(i);
      busy.write((i + pages - 3) % pages, 0xca000 + turn);
    });
    if (!outgrown_above) outgrow();
    must(mprotect(kept_shut.at + 4 * page, 4 * page, PROT_READ | PROT_WRITE), "mprotect");
    if (guards) {
      w.check(write(ends[1], guarded.at + 3 * page, 1) == -1 && errno == EFAULT, "the child's guard has gone");
      must(madvise(guarded.at + 3 * page, page, remove_guard), "madvise");
    }
    for (const Area* a : {&dropped, &replaced, &moved, &kept_shut, &guarded, &locked, &zeroed, &wiped, &missing, &busy,
                          &grown, &above, &outgrown, &*outgrown_above})
      a->check(w, "child");
    file.check(w, "child", 0xf1, 0xf4);
    w.check(is_one_mapping(grown), "what has grown is not one mapping");
    w.check(is_one_mapping(outgrown), "what has outgrown the parent's is not one mapping");
    must(munlock(locked.at, area), "munlock");
  });
  await_settled(w, "heir");
  dropped.write(1, 0xd1001);
  memset(zeroed.at + 4 * page, 0, page);
  zeroed.is_zero(4);

  w.ready();
  w.wait_for_verify();
  for (const Area* a : {&dropped, &replaced, &moved, &kept_shut, &guarded, &locked, &zeroed, &wiped, &missing, &busy,
                        &grown, &outgrown})
    a->check(w, "parent");
  file.check(w, "parent", 0xf3, 0xf4);
  check_end(w, child);
  return w.finish();
}
