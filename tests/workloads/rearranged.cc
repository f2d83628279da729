// Checks: memory that is rearranged when the runner asks for it (live: in pre-copy; tracked: after the first dump):
// what becomes zero, a hole, a guard, longer, shorter, another mapping at the same addresses, one with a mapping beside
// it, and files that change below their mappings.

#include "tests/workloads/layout.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t size = 16 * page;
constexpr int guard_install = 102, guard_remove = 103;  // 6.13+

// Some memory of `size` bytes: how it is rearranged, and what it has to be like then.
struct Piece {
  const char* what;
  char* at;
  std::function<void()> rearrange;
  std::function<bool()> good;
  std::string layout;
};

char* map_at(char* at, std::size_t bytes, int flags, int fd = -1) {
  const int kind = fd < 0 ? MAP_ANONYMOUS : 0;
  return static_cast<char*>(must(mmap(at, bytes, PROT_READ | PROT_WRITE, flags | kind, fd, 0), "mmap"));
}

char* filled(std::uint64_t seed) {
  char* const at = map(size);
  fill(at, size, seed);
  return at;
}

bool kept(const char* at, std::uint64_t seed, std::size_t first, std::size_t end) {
  return holds(at + first * page, (end - first) * page, seed + first * page);
}

// Whether nobody can touch it.
bool guarded(const char* at) {
  int ends[2];
  must(pipe2(ends, O_CLOEXEC), "pipe2");
  const bool refused = write(ends[1], at, 1) == -1 && errno == EFAULT;
  for (const int end : ends) close(end);
  return refused;
}

int memfd(std::uint64_t seed) {
  const int fd = must(memfd_create("rearranged", MFD_CLOEXEC), "memfd_create");
  must(ftruncate(fd, size), "ftruncate");
  char* const view = map_at(nullptr, size, MAP_SHARED, fd);
  fill(view, size, seed);
  must(munmap(view, size), "munmap");
  return fd;
}

void private_pieces(std::vector<Piece>& pieces) {
  char* const zero = filled(0x100);
  pieces.push_back(
      {"what becomes zero",
       zero,
       [=] { std::memset(zero + 3 * page, 0, 2 * page); },
       [=] { return kept(zero, 0x100, 0, 3) && all_zero(zero + 3 * page, 2 * page) && kept(zero, 0x100, 5, 16); },
       {}});
  char* const given = filled(0x200);
  pieces.push_back(
      {"what is given back",
       given,
       [=] { must(madvise(given + page, 4 * page, MADV_DONTNEED), "MADV_DONTNEED"); },
       [=] { return kept(given, 0x200, 0, 1) && all_zero(given + page, 4 * page) && kept(given, 0x200, 5, 16); },
       {}});
  char* const hole = filled(0x300);
  pieces.push_back({"what gets a hole",
                    hole,
                    [=] { must(munmap(hole + 4 * page, 3 * page), "munmap"); },
                    [=] { return kept(hole, 0x300, 0, 4) && kept(hole, 0x300, 7, 16); },
                    {}});
  char* const longer = filled(0x400);
  must(munmap(longer + 8 * page, 8 * page), "munmap");
  pieces.push_back({"what grows",
                    longer,
                    [=] {
                      must(mremap(longer, 8 * page, size, 0), "mremap");
                      fill(longer + 12 * page, 4 * page, 0x410);
                    },
                    [=] {
                      return kept(longer, 0x400, 0, 8) && all_zero(longer + 8 * page, 4 * page) &&
                             holds(longer + 12 * page, 4 * page, 0x410);
                    },
                    {}});
  char* const moved = filled(0x500);
  char* const target = map(size);
  pieces.push_back({"what another mapping comes in place of",
                    moved,
                    [=] {
                      must(mremap(moved, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, target), "mremap");
                      map_at(moved, size, MAP_PRIVATE | MAP_FIXED_NOREPLACE);
                      fill(moved + 2 * page, page, 0x510);
                    },
                    [=] {
                      return all_zero(moved, 2 * page) && holds(moved + 2 * page, page, 0x510) &&
                             all_zero(moved + 3 * page, 13 * page) && kept(target, 0x500, 0, 16);
                    },
                    {}});
  char* const hidden = filled(0x600);
  pieces.push_back({"what is written and can be read no more",
                    hidden,
                    [=] {
                      fill(hidden + 5 * page, page, 0x610);
                      must(mprotect(hidden + 4 * page, 3 * page, PROT_NONE), "mprotect");
                    },
                    [=] {
                      must(mprotect(hidden + 4 * page, 3 * page, PROT_READ), "mprotect");
                      return kept(hidden, 0x600, 0, 5) && holds(hidden + 5 * page, page, 0x610) &&
                             kept(hidden, 0x600, 6, 16);
                    },
                    {}});
  // Guards over content, and content where guards were.
  char* const guards = filled(0x700);
  if (madvise(guards + 8 * page, 2 * page, guard_install) != 0) return;
  pieces.push_back({"where guards come and go",
                    guards,
                    [=] {
                      must(madvise(guards + 2 * page, 2 * page, guard_install), "install guards");
                      must(madvise(guards + 8 * page, 2 * page, guard_remove), "remove guards");
                      fill(guards + 9 * page, page, 0x710);
                    },
                    [=] {
                      return guarded(guards + 2 * page) && guarded(guards + 3 * page) && kept(guards, 0x700, 0, 2) &&
                             kept(guards, 0x700, 4, 8) && all_zero(guards + 8 * page, page) &&
                             holds(guards + 9 * page, page, 0x710) && kept(guards, 0x700, 10, 16);
                    },
                    {}});
}

void shared_pieces(Workload& w, std::vector<Piece>& pieces) {
  char* const to_shared = filled(0x900);
  pieces.push_back({"private memory that shared memory replaces",
                    to_shared,
                    [=] { fill(map_at(to_shared, size, MAP_SHARED | MAP_FIXED) + page, page, 0x910); },
                    [=] {
                      return all_zero(to_shared, page) && holds(to_shared + page, page, 0x910) &&
                             all_zero(to_shared + 2 * page, 14 * page);
                    },
                    {}});
  char* const to_private = map_at(nullptr, size, MAP_SHARED);
  fill(to_private, size, 0xa00);
  pieces.push_back({"shared memory that private memory replaces",
                    to_private,
                    [=] { fill(map_at(to_private, size, MAP_PRIVATE | MAP_FIXED) + page, page, 0xa10); },
                    [=] {
                      return all_zero(to_private, page) && holds(to_private + page, page, 0xa10) &&
                             all_zero(to_private + 2 * page, 14 * page);
                    },
                    {}});
  const int fd = memfd(0xb00);
  char* const view = map_at(nullptr, size, MAP_SHARED, fd);
  pieces.push_back({"a memfd that gets holes, and is shorter and longer again",
                    view,
                    [=] {
                      must(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * page, 2 * page), "fallocate");
                      must(ftruncate(fd, 12 * page), "ftruncate");
                      must(ftruncate(fd, size), "ftruncate");
                    },
                    [=] {
                      return kept(view, 0xb00, 0, 2) && all_zero(view + 2 * page, 2 * page) &&
                             kept(view, 0xb00, 4, 12) && all_zero(view + 12 * page, 4 * page);
                    },
                    {}});
  const int first = memfd(0xc00);
  char* const exchanged = map_at(nullptr, size, MAP_SHARED, first);
  pieces.push_back({"a memfd that another one replaces",
                    exchanged,
                    [=] {
                      const int second = memfd(0xc10);
                      map_at(exchanged, size, MAP_SHARED | MAP_FIXED, second);
                      must(dup3(second, first, O_CLOEXEC), "dup3");
                      close(second);
                    },
                    [=] {
                      char content[page];
                      return kept(exchanged, 0xc10, 0, 16) && pread(first, content, page, 0) == page &&
                             holds(content, page, 0xc10);
                    },
                    {}});

  // Mapped for reading: the size of such a file is compared before it is mapped again.
  std::string content(size, 0);
  fill(content.data(), size, 0xd00);
  const std::string name = w.path("grows");
  write_file(name, content.substr(0, 6 * page));
  const int file = must(open(name.c_str(), O_RDONLY | O_CLOEXEC), "open");
  auto* const grows = static_cast<char*>(must(mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0), "mmap"));
  pieces.push_back({"a mapped file that grows",
                    grows,
                    [=] { write_file(name, content); },
                    [=] { return kept(grows, 0xd00, 0, 16); },
                    {}});
  auto* const thrown =
      static_cast<char*>(must(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0), "mmap"));
  close(file);
  fill(thrown + 2 * page, page, 0xd10);
  pieces.push_back({"a change of a mapped file that is thrown away",
                    thrown,
                    [=] { must(madvise(thrown + 2 * page, page, MADV_DONTNEED), "MADV_DONTNEED"); },
                    [=] { return kept(thrown, 0xd00, 0, 6); },
                    {}});
  const std::string removed = w.path("removed");
  write_file(removed, content);
  const int short_lived = must(open(removed.c_str(), O_RDONLY | O_CLOEXEC), "open");
  char* const from_file = map_at(nullptr, size, MAP_PRIVATE, short_lived);
  close(short_lived);
  pieces.push_back({"a mapped file that is removed",
                    from_file,
                    [=] {
                      fill(map_at(from_file, size, MAP_PRIVATE | MAP_FIXED) + page, page, 0xd20);
                      must(unlink(removed.c_str()), "unlink");
                    },
                    [=] {
                      return all_zero(from_file, page) && holds(from_file + page, page, 0xd20) &&
                             all_zero(from_file + 2 * page, 14 * page);
                    },
                    {}});
  char* const to_file = filled(0xe00);
  pieces.push_back({"private memory that a file replaces",
                    to_file,
                    [=] {
                      const int other = must(open(name.c_str(), O_RDONLY | O_CLOEXEC), "open");
                      map_at(to_file, 6 * page, MAP_PRIVATE | MAP_FIXED, other);
                      close(other);
                      fill(to_file + 2 * page, page, 0xe10);
                    },
                    [=] {
                      return kept(to_file, 0xd00, 0, 2) && holds(to_file + 2 * page, page, 0xe10) &&
                             kept(to_file, 0xd00, 3, 6) && kept(to_file, 0xe00, 6, 16);
                    },
                    {}});
}

// In a mapping that is mostly empty nobody looks at every page.
Piece sparse_piece() {
  char* const at = map(256 << 20, MAP_NORESERVE);
  fill(at, size, 0xf00);
  madvise(at + 8 * page, page, guard_install);
  return {"what is given back in a large mapping",
          at,
          [=] {
            madvise(at + 8 * page, page, guard_remove);
            for (const std::size_t i : {2, 3, 8}) must(madvise(at + i * page, page, MADV_DONTNEED), "MADV_DONTNEED");
          },
          [=] {
            return kept(at, 0xf00, 0, 2) && all_zero(at + 2 * page, 2 * page) && kept(at, 0xf00, 4, 8) &&
                   all_zero(at + 8 * page, page) && kept(at, 0xf00, 9, 16);
          },
          {}};
}

// A mapping that becomes one with what lies below it, and goes on being written, here and there.
class Joined {
 public:
  Joined() {
    for (std::size_t i = 0; i < pages; ++i) fill(at_ + i * page, page, seeds_[i] = i);
    away_ = map(size);
    must(mremap(at_, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, away_), "mremap");
    must(mmap(at_, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0), "keep the place");
  }

  void join() { must(mremap(away_, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, at_), "mremap"); }

  void write(Workload& w) {
    for (int n = 0; n < 8; ++n) {
      const std::size_t i = size / page + mix(++turn_) % (pages - size / page);
      check(w, i);
      fill(at_ + i * page, page, seeds_[i] = pages + turn_);
    }
  }

  void check_all(Workload& w) const {
    for (std::size_t i = 0; i < pages; ++i) check(w, i);
  }

 private:
  static constexpr std::size_t pages = 144;

  void check(Workload& w, std::size_t i) const {
    w.check(holds(at_ + i * page, page, seeds_[i]), "page %zu of what was joined is not the last", i);
  }

  char* at_ = map(pages * page);
  char* away_ = nullptr;
  std::vector<std::uint64_t> seeds_ = std::vector<std::uint64_t>(pages);
  std::uint64_t turn_ = 0;
};

// Made last and rearranged first: it needs room below it, where the kernel would put other mappings.
Piece growing_piece() {
  constexpr std::size_t room = 16 << 20;
  char* const reserved = map(room, MAP_NORESERVE);
  must(munmap(reserved, room), "munmap");
  char* const stack = map_at(reserved + room - page, page, MAP_PRIVATE | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE);
  fill(stack, page, 0x800);
  return {"what grows down",
          stack - 15 * page,
          [=] {
            for (std::size_t i = 1; i < 16; ++i) fill(stack - i * page, page, 0x800 + i);
          },
          [=] {
            for (std::size_t i = 0; i < 16; ++i)
              if (!holds(stack - i * page, page, 0x800 + i)) return false;
            return true;
          },
          {}};
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::vector<Piece> pieces;
  private_pieces(pieces);
  shared_pieces(w, pieces);
  pieces.push_back(sparse_piece());
  Joined joined;
  pieces.insert(pieces.begin(), growing_piece());

  w.ready();
  bool rearranged = false;
  w.wait_for_verify([&] {
    if (rearranged) joined.write(w);
    if (rearranged || !w.asked("rearrange")) return;
    for (Piece& piece : pieces) {
      piece.rearrange();
      piece.layout = layout(piece.at, size);
    }
    joined.join();
    rearranged = true;
    w.tell("rearrange.done", "");
  });
  w.check(rearranged, "nobody asked for it");
  joined.check_all(w);
  for (const Piece& piece : pieces) {
    const std::string now = layout(piece.at, size);
    w.check(now == piece.layout, "%s: the mappings were\n%sand are\n%s", piece.what, piece.layout.c_str(), now.c_str());
    w.check(piece.good(), "%s has other content", piece.what);
  }
  return w.finish();
}
