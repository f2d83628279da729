// Checks: buffers that reads with O_DIRECT fill: a device writes into them past the page tables, where no tracker sees
// it.

#include "tests/workloads/direct_blocks.h"

#include <fcntl.h>
#include <list>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t block = direct_block, blocks = direct_blocks;
constexpr std::size_t buffers = 128;  // of a thread
constexpr std::size_t threads = 4;

void fill_buffers(Workload& w, int fd, std::uint64_t seed, const std::atomic<bool>& stop) {
  char* const memory = map(buffers * block);
  std::size_t content[buffers];
  for (std::size_t i = 0; i < buffers; ++i) content[i] = blocks;  // nothing
  for (std::uint64_t turn = seed << 32; !stop; ++turn) {
    const std::size_t i = turn % buffers;
    content[i] = mix(turn) % blocks;
    const ssize_t got = pread(fd, memory + i * block, block, static_cast<off_t>(content[i] * block));
    if (!w.check(got == static_cast<ssize_t>(block), "pread with O_DIRECT returned %zd: %m", got)) return;
    if (i % 16 == 0) pause_for(0.001);
  }
  check_direct_blocks(w, memory, content);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int fd = open_direct_blocks(w);
  std::atomic<bool> stop = false;
  std::list<std::thread> readers;
  for (std::uint64_t i = 0; i < threads; ++i) readers.emplace_back([&, i] { fill_buffers(w, fd, i + 1, stop); });

  w.ready();
  w.wait_for_verify();
  w.check((fcntl(fd, F_GETFL) & O_DIRECT) != 0, "reads are not O_DIRECT any more");
  stop = true;
  for (std::thread& reader : readers) reader.join();
  return w.finish();
}
