// Checks: buffers that native AIO fills with O_DIRECT, several at once all the time: a device writes into them past the
// page tables, also while no thread is in a system call, and requests are in flight whenever it is stopped.

#include "tests/workloads/direct_blocks.h"

#include <array>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t block = direct_block, blocks = direct_blocks;
constexpr std::size_t buffers = 256;
constexpr std::size_t in_flight = 8;

class Reader {
 public:
  Reader(Workload& w, int file) : w_(w), file_(file), memory_(map(buffers * block)) {
    must(syscall(SYS_io_setup, in_flight, &context_), "io_setup");
    content_.fill(blocks);  // nothing
  }

  void run(const std::atomic<bool>& stop) {
    for (std::uint64_t turn = 0; !stop; ++turn) {
      if (!under_way_[turn % buffers] && !submit(turn)) return;
      if (flying_ == in_flight && !fetch()) return;
    }
    while (flying_ > 0 && fetch()) {
    }
    check_direct_blocks(w_, memory_, content_);
  }

 private:
  bool submit(std::uint64_t turn) {
    const std::size_t i = turn % buffers;
    content_[i] = mix(turn) % blocks;
    under_way_[i] = true;
    iocb request{};
    request.aio_data = i;
    request.aio_lio_opcode = IOCB_CMD_PREAD;
    request.aio_fildes = static_cast<std::uint32_t>(file_);
    request.aio_buf = reinterpret_cast<std::uintptr_t>(memory_ + i * block);
    request.aio_nbytes = block;
    request.aio_offset = static_cast<std::int64_t>(content_[i] * block);
    iocb* const list = &request;
    ++flying_;
    return w_.check(syscall(SYS_io_submit, context_, 1, &list) == 1, "io_submit: %m");
  }

  bool fetch() {
    std::array<io_event, in_flight> events;
    timespec limit{20, 0};
    const long count = syscall(SYS_io_getevents, context_, 1, events.size(), events.data(), &limit);
    if (!w_.check(count > 0, "of %zu requests none came to its end: io_getevents returned %ld", flying_, count))
      return false;
    for (long i = 0; i < count; ++i) {
      const io_event& e = events[static_cast<std::size_t>(i)];
      if (!w_.check(e.res == static_cast<std::int64_t>(block), "a read returned %lld", static_cast<long long>(e.res)))
        return false;
      under_way_[e.data] = false;
      --flying_;
    }
    return true;
  }

  Workload& w_;
  const int file_;
  char* const memory_;
  aio_context_t context_ = 0;
  std::size_t flying_ = 0;
  std::array<std::size_t, buffers> content_{};
  std::array<bool, buffers> under_way_{};
};

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  const int file = open_direct_blocks(w);
  Reader reader(w, file);
  std::atomic<bool> stop = false;
  std::thread thread([&] { reader.run(stop); });

  w.ready();
  w.wait_for_verify();
  stop = true;
  thread.join();
  return w.finish();
}
