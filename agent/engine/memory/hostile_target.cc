#include "agent/engine/memory/hostile_target.h"

#include "common/base/check.h"
#include "common/base/units.h"

#include <array>
#include <csignal>
#include <cstring>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <alloca.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

// Not in Debian 12's headers.
constexpr int madv_guard_install = 102, madv_guard_remove = 103;  // 6.13+
constexpr int map_droppable = 0x08;                               // 6.11+
constexpr int madv_collapse = 25;                                 // 6.1+

constexpr std::size_t kilopage = 1024 * page_size;

char* map(std::size_t length, int prot = PROT_READ | PROT_WRITE, int flags = MAP_PRIVATE | MAP_ANONYMOUS, int fd = -1,
          void* at = nullptr) {
  void* mapped = ::mmap(at, length, prot, flags, fd, 0);
  if (mapped == MAP_FAILED) check(-1, "map memory");
  return static_cast<char*>(mapped);
}

// Writes, drops, moves, grows, protects and replaces its own memory. That is at one of two places where the kernel maps
// nothing unasked: what a move that fails half way (one of several VMAs, 6.17+) has left of it can be unmapped, and no
// other thread has got the room meanwhile.
void churn(unsigned seed) {
  std::mt19937 random(seed);
  constexpr std::size_t pages = 512, room = 2 * pages * page_size;
  constexpr std::uintptr_t lowest = 0x2000'0000'0000;
  char* region = reinterpret_cast<char*>(lowest + seed * 4 * room);
  char* other = region + 2 * room;
  std::size_t length = pages * page_size;
  const auto map_at = [](char* at, std::size_t size) {
    map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, at);
  };
  map_at(region, length);
  for (;;) {
    const std::size_t page = random() % (length / page_size);
    char* at = region + page * page_size;
    switch (random() % 16) {
      case 0: ::madvise(at, page_size, MADV_DONTNEED); break;
      case 1: ::mprotect(at, page_size, PROT_READ); break;
      case 2: ::mprotect(region, length, PROT_READ | PROT_WRITE); break;
      case 3:  // move to somewhere else
        std::swap(region, other);
        if (::mremap(other, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, region) == MAP_FAILED) {
          ::munmap(other, room);
          map_at(region, length);
        }
        break;
      case 4: {  // grow or shrink
        const std::size_t now = (pages / 2 + random() % pages) * page_size;
        if (::mremap(region, length, now, 0) != MAP_FAILED) length = now;
        break;
      }
      case 5:  // the same place, another mapping
        map_at(at, page_size);
        break;
      case 6: ::mprotect(at, page_size, random() % 2 ? PROT_NONE : PROT_EXEC); break;
      case 7:  // only read: the zero page
        ::mprotect(at, page_size, PROT_READ | PROT_WRITE);
        static_cast<void>(*static_cast<volatile char*>(at));
        break;
      case 8: ::madvise(at, page_size, MADV_FREE); break;
      case 9: ::madvise(at, page_size, random() % 2 ? MADV_PAGEOUT : MADV_POPULATE_WRITE); break;
      default: {
        ::mprotect(at, page_size, PROT_READ | PROT_WRITE);
        std::uint32_t* word = reinterpret_cast<std::uint32_t*>(at);
        for (int i = 0; i < 8; i++) word[random() % (page_size / 4)] = random();
      }
    }
    if (random() % 64 == 0) ::usleep(200);
  }
}

void allocate(unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::vector<char>> held(64);
  for (;;) {
    held[random() % held.size()] = std::vector<char>(random() % 65536, static_cast<char>(random()));
    if (random() % 16 == 0) ::usleep(500);
  }
}

// Huge pages that come, are split and go.
void churn_huge(unsigned seed) {
  std::mt19937 random(seed);
  constexpr std::size_t huge = 512 * page_size, count = 4;
  char* const raw = map((count + 1) * huge);
  char* const region = reinterpret_cast<char*>((reinterpret_cast<std::uintptr_t>(raw) + huge - 1) & ~(huge - 1));
  ::madvise(region, count * huge, MADV_HUGEPAGE);
  for (;;) {
    char* const at = region + random() % count * huge;
    switch (random() % 12) {
      case 0: ::madvise(at, huge, MADV_DONTNEED); break;
      case 1: ::madvise(at + random() % 512 * page_size, page_size, MADV_DONTNEED); break;
      case 2: ::madvise(at, huge, madv_collapse); break;
      default: at[random() % huge] = static_cast<char>(random());
    }
    ::usleep(100);
  }
}

// Guards come and go in a small mapping, in a sparse one, and go with their mapping.
void churn_guards(unsigned seed) {
  std::mt19937 random(seed);
  char* small = map(64 * page_size);
  char* const sparse = map(std::size_t{1} << 36, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  for (;;) {
    char* const at = random() % 2 ? small + random() % 64 * page_size : sparse + (random() % 64 << 29);
    switch (random() % 4) {
      case 0: ::madvise(at, page_size, madv_guard_install); break;
      case 1: ::madvise(at, page_size, madv_guard_remove); break;
      case 2:
        ::madvise(at, page_size, madv_guard_remove);
        *at = static_cast<char>(random());
        break;
      default:
        if (random() % 16) break;
        map(64 * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, small);
    }
    ::usleep(100);
  }
}

// A mapping that grows downwards, the break, and pages that move away and leave their mapping behind.
void grow(unsigned seed) {
  std::mt19937 random(seed);
  // Below everything else, where nobody maps: nothing may come into its way.
  constexpr std::uintptr_t top = 0x3000'0000;
  char* const stack =
      map(page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1,
          reinterpret_cast<void*>(top - page_size));
  char* const first = static_cast<char*>(::sbrk(0));
  std::size_t depth = 1, heap = 0;
  char* region = map(16 * page_size);
  // What moves have left behind, the latest of it: with all of it a slow round would make the next one slower still.
  std::array<char*, 32> left{};
  for (std::size_t moves = 0;;) {
    if (random() % 8 == 0 && depth < 512) depth++;
    char* const page = stack - (depth - 1) * page_size;
    page[random() % page_size] = static_cast<char>(random());
    if (random() % 16 == 0) {
      const std::size_t next = random() % 64 * page_size;
      if (::brk(first + next) == 0) heap = next;
    }
    if (heap) first[random() % heap] = static_cast<char>(random());
    region[random() % (16 * page_size)] = static_cast<char>(random());
    if (random() % 64 == 0) {
      void* const moved = ::mremap(region, 16 * page_size, 16 * page_size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, nullptr);
      if (moved != MAP_FAILED) {
        *region = 1;
        ::munmap(region + 8 * page_size, 8 * page_size);
        char* const oldest = std::exchange(left[moves++ % left.size()], region);
        if (oldest) ::munmap(oldest, 8 * page_size);
        region = static_cast<char*>(moved);
      }
    }
    ::usleep(200);
  }
}

// Memory that others write into: the kernel in read(2), another process by process_vm_writev.
void be_written(unsigned seed) {
  std::mt19937 random(seed);
  constexpr std::size_t pages = 64;
  char* const region = map(pages * page_size);
  const int source = ::open("/dev/urandom", O_RDONLY | O_CLOEXEC);
  for (;;) {
    check(::read(source, region + random() % (pages - 1) * page_size + 100, page_size), "read");
    if (random() % 64 == 0) {
      const pid_t child = ::fork();  // copy-on-write pages besides
      if (child == 0) {
        char content[64];
        std::memset(content, static_cast<char>(random()), sizeof content);
        const iovec local{content, sizeof content};
        for (int i = 0; i < 20; i++) {
          const iovec remote{region + random() % pages * page_size, sizeof content};
          ::process_vm_writev(::getppid(), &local, 1, &remote, 1, 0);
          ::usleep(500);
        }
        ::_exit(0);
      }
      for (int i = 0; i < 200; i++) region[random() % (pages * page_size)] = static_cast<char>(random());
      ::waitpid(child, nullptr, 0);
    }
    ::usleep(200);
  }
}

// Only ever deeper: the stack of the first thread grows in place.
__attribute__((noinline)) void dig(std::mt19937& random, std::size_t bytes) {
  volatile char* const frame = static_cast<char*>(::alloca(bytes));
  for (std::size_t at = 0; at < bytes; at += page_size / 2) frame[at] = static_cast<char>(random());
}

// Kinds of memory that stay as they are.
void make_still_memory() {
  const auto filled = [](std::size_t pages, int value, int prot) {
    char* const at = map(pages * page_size);
    std::memset(at, value, pages * page_size);
    check(::mprotect(at, pages * page_size, prot), "protect");
    return at;
  };
  filled(16, 0x11, PROT_NONE);
  filled(4, 0x22, PROT_WRITE);
  filled(4, 0x33, PROT_EXEC);
  char* const locked = filled(8, 0x44, PROT_READ | PROT_WRITE);
  ::mlock(locked, 8 * page_size);  // when the limit allows it
  char* const wiped = filled(8, 0x55, PROT_READ | PROT_WRITE);
  ::madvise(wiped, 8 * page_size, MADV_WIPEONFORK);
  void* const droppable = ::mmap(nullptr, 8 * page_size, PROT_READ | PROT_WRITE, map_droppable | MAP_ANONYMOUS, -1, 0);
  if (droppable != MAP_FAILED) std::memset(droppable, 0x66, 8 * page_size);
}

}  // namespace

void hostile_target(int ready) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  make_still_memory();
  char* const sparse = map(std::size_t{1} << 40, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
  for (int i = 0; i < 32; i++) sparse[static_cast<std::size_t>(i) << 34] = static_cast<char>(i + 1);
  constexpr std::size_t pages = 64;
  char* const shared = map(pages * page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  void* const again = ::mremap(shared, 0, pages * page_size, MREMAP_MAYMOVE);  // a second mapping of it
  if (again == MAP_FAILED) check(-1, "map shared memory again");
  const int memfd = check(::memfd_create("shadow", 0), "create a memfd");
  check(::ftruncate(memfd, pages * page_size), "size");
  char* const memory = map(pages * page_size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd);
  char* const own_copy = map(pages * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, memfd);
  const int exe = ::open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
  char* const file = map(pages * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, exe);
  const int zero = ::open("/dev/zero", O_RDWR | O_CLOEXEC);
  char* const from_zero = map(pages * page_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero);

  for (unsigned i = 0; i < 3; i++) std::thread(churn, i).detach();
  std::thread(allocate, 7).detach();
  std::thread(churn_huge, 8).detach();
  std::thread(churn_guards, 9).detach();
  std::thread(grow, 10).detach();
  std::thread(be_written, 11).detach();
  check(::write(ready, "r", 1), "say ready");

  std::mt19937 random(99);
  const auto page_of = [&](char* region) { return region + random() % pages * page_size; };
  std::size_t depth = 0;
  for (std::uint32_t n = 1;; n++) {
    const char value = static_cast<char>(n);
    std::memcpy(page_of(random() % 2 ? shared : static_cast<char*>(again)), &n, 4);
    check(::pwrite(memfd, &n, 4, static_cast<off_t>(random() % pages * page_size)), "write to the memfd");
    page_of(memory)[8] = value;
    page_of(from_zero)[random() % page_size] = value;
    for (char* region : {file, own_copy, from_zero}) {
      char* const page = page_of(region);
      if (random() % 4 == 0)
        ::madvise(page, page_size, MADV_DONTNEED);
      else
        page[random() % page_size] = value;
    }
    if (random() % 16 == 0) ::madvise(page_of(random() % 2 ? memory : shared), page_size, MADV_REMOVE);
    if (random() % 256 == 0) {  // shorter and long again
      check(::ftruncate(memfd, static_cast<off_t>(pages / 2 * page_size)), "shorten");
      check(::ftruncate(memfd, static_cast<off_t>(pages * page_size)), "lengthen");
    }
    sparse[(random() % 32ul << 34) + 100] = value;
    if (random() % 8 == 0) ::madvise(sparse + (random() % 32ul << 34), page_size, MADV_DONTNEED);
    if (n % 512 == 0) {  // children come and go
      const pid_t child = ::fork();
      if (child == 0) ::_exit(0);
      ::waitpid(child, nullptr, 0);
    }
    if (n % 32 == 0) {
      dig(random, depth = std::min(depth + page_size, kilopage));
      ::usleep(300);
    }
  }
}

}  // namespace godwit::engine
