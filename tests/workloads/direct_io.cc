// Checks: buffers that reads with O_DIRECT fill: a device writes into them past the page tables, where no tracker sees
// it.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <fcntl.h>
#include <list>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t block = 64 << 10;
constexpr std::size_t blocks = 32;    // of the file
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
  for (std::size_t i = 0; i < buffers; ++i) {
    w.check(content[i] == blocks || holds(memory + i * block, block, content[i] * block),
            "buffer %zu is not what was read from block %zu", i, content[i]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const std::string name = w.path("blocks");
  {
    std::string content(blocks * block, 0);
    fill(content.data(), content.size(), 0);
    write_file(name, content);
  }
  const int fd = open(name.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (fd < 0 && errno == EINVAL) w.skip("this file system has no O_DIRECT");
  if (fd < 0) give_up("open");
  must(fdatasync(fd), "fdatasync");
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
