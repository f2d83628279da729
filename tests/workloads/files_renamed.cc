// Checks: an open file, a mapped one and the working directory that change places with others all the time, of the same
// size and kind: whatever they are called in the end, they are the ones that they were.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t size = 16 * 4096;
constexpr off_t here = 7, there = 9;  // offsets, by which broken.txt knows the files

// Two that change places.
struct Pair {
  std::string one, other;
  bool exchanged = false;

  void exchange() {
    must(renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE), "renameat2");
    exchanged = !exchanged;
  }
  const std::string& name_of_one() const { return exchanged ? other : one; }
};

std::string filled(std::uint64_t seed) {
  std::string content(size, 0);
  fill(content.data(), content.size(), seed);
  return content;
}

Pair files(const Workload& w, const std::string& name, std::uint64_t seed) {
  Pair pair{w.path(name + "-one"), w.path(name + "-other")};
  write_file(pair.one, filled(seed));
  write_file(pair.other, filled(seed + 100));
  return pair;
}

Pair directories(const Workload& w) {
  Pair pair{w.path("here"), w.path("there")};
  for (const std::string& name : {pair.one, pair.other}) {
    must(mkdir(name.c_str(), 0755), "mkdir");
    write_file(name + "/inside", filled(name == pair.one ? 3 : 103));
  }
  return pair;
}

bool same(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

void check_file(Workload& w, const char* what, int fd, const std::string& name, std::uint64_t seed) {
  struct stat open{}, named{};
  must(fstat(fd, &open), "fstat");
  must(stat(name.c_str(), &named), name.c_str());
  std::string content(size, 0);
  w.check(same(open, named), "%s is not %s any more", what, name.c_str());
  w.check(pread(fd, content.data(), size, 0) == size && content == filled(seed), "%s has another content", what);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  Pair opened = files(w, "opened", 1), mapped = files(w, "mapped", 2), places = directories(w);
  const int file = must(open(opened.one.c_str(), O_RDWR | O_CLOEXEC), "open");
  must(lseek(file, here, SEEK_SET), "lseek");
  const int inside = must(open((places.one + "/inside").c_str(), O_RDONLY | O_CLOEXEC), "open");
  must(lseek(inside, there, SEEK_SET), "lseek");
  const int directory = must(open(places.one.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open");
  must(chdir(places.one.c_str()), "chdir");
  const int map = must(open(mapped.one.c_str(), O_RDONLY | O_CLOEXEC), "open");
  char* const memory =
      static_cast<char*>(must(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, map, 0), "mmap"));
  close(map);
  memory[5] = 'x';  // the other pages are the file's
  std::atomic<bool> ending = false;
  std::thread renamer([&] {
    for (; !ending; pause_for(0.005))
      for (Pair* pair : {&opened, &mapped, &places}) pair->exchange();
  });

  w.ready();
  w.wait_for_verify();
  ending = true;
  renamer.join();
  check_file(w, "the open file", file, opened.name_of_one(), 1);
  check_file(w, "the file in the directory", inside, places.name_of_one() + "/inside", 3);
  struct stat open{}, named{}, current{};
  must(fstat(directory, &open), "fstat");
  must(stat(places.name_of_one().c_str(), &named), "stat");
  must(stat(".", &current), "stat");
  w.check(same(open, named), "the open directory is not %s any more", places.name_of_one().c_str());
  w.check(same(current, named), "the working directory is not %s any more", places.name_of_one().c_str());
  std::string expected = filled(2);
  expected[5] = 'x';
  w.check(memcmp(memory, expected.data(), size) == 0, "the mapped file is another one");
  return w.finish();
}
