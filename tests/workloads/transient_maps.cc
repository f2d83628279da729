// Checks: mappings that come and go all the time: of files that are removed again, of shared memory, of memfds.

#include "tests/workloads/workload.h"

#include <fcntl.h>
#include <list>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t size = 16 * 4096;

char* map_shared(int flags, int fd) {
  return static_cast<char*>(must(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | flags, fd, 0), "mmap"));
}

void with_files(Workload& w, const std::atomic<bool>& stop) {
  for (std::uint64_t turn = 1; !stop; ++turn) {
    const std::string name = w.path("transient-" + std::to_string(turn % 3));
    const int fd = must(open(name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), "open");
    char content[size];
    fill(content, size, turn);
    if (write(fd, content, size) != static_cast<ssize_t>(size)) give_up("write");
    auto* const at = static_cast<char*>(must(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0), "mmap"));
    close(fd);
    fill(at + 4096, 4096, turn << 20);
    if (turn % 4 == 0) pause_for(0.002);
    w.check(holds(at, 4096, turn) && holds(at + 4096, 4096, turn << 20) && holds(at + 8192, size - 8192, turn + 8192),
            "a private mapping of a file changed");
    must(munmap(at, size), "munmap");
    must(unlink(name.c_str()), "unlink");
  }
}

void with_shared_memory(Workload& w, const std::atomic<bool>& stop, bool memfd) {
  std::list<std::pair<char*, std::uint64_t>> maps;
  for (std::uint64_t turn = 1; !stop; ++turn) {
    int fd = -1;
    if (memfd) {
      fd = must(memfd_create("transient", MFD_CLOEXEC), "memfd_create");
      must(ftruncate(fd, size), "ftruncate");
    }
    maps.emplace_back(map_shared(memfd ? 0 : MAP_ANONYMOUS, fd), turn);
    if (memfd) close(fd);
    fill(maps.back().first, size, turn);
    if (turn % 4 == 0) pause_for(0.002);
    if (maps.size() < 5) continue;
    w.check(holds(maps.front().first, size, maps.front().second), "shared memory changed");
    must(munmap(maps.front().first, size), "munmap");
    maps.pop_front();
  }
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::atomic<bool> stop = false;
  std::thread files([&] { with_files(w, stop); });
  std::thread anonymous([&] { with_shared_memory(w, stop, false); });
  std::thread memfds([&] { with_shared_memory(w, stop, true); });

  w.ready();
  w.wait_for_verify();
  stop = true;
  for (std::thread* thread : {&files, &anonymous, &memfds}) thread->join();
  return w.finish();
}
