// Writes buffers into files while the next one is being filled: reading a stopped process and writing what was read
// then take the time of the slower of the two, not of both.
//
// It has a thread of its own, which does nothing but this, in the order in which buffers come; everything here is called
// from one thread.
#pragma once

#include "common/base/buffer.h"

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include <sys/types.h>

namespace godwit::engine {

class BackgroundWriter {
 public:
  // The thread may run on every CPU that the caller may run on now, also when the caller pins itself later.
  explicit BackgroundWriter(std::size_t buffer_size);
  ~BackgroundWriter();  // what was handed over is written, failures are dropped
  BackgroundWriter(const BackgroundWriter&) = delete;
  BackgroundWriter& operator=(const BackgroundWriter&) = delete;

  // The buffer to fill. The same one until it is handed over.
  std::span<std::byte> buffer();

  // Hands over the first `size` bytes of it, and what is to be done once they are written, on the same thread. `fd` must
  // stay open until finish(). Throws what a former write threw.
  using Then = std::function<void()>;
  void write(int fd, off_t offset, std::size_t size, Then then = {});

  // Waits until everything is written. Throws the first failure.
  void finish();

 private:
  struct Job {
    int fd = -1;
    off_t offset = 0;
    std::size_t size = 0;
    Buffer bytes;
    Then then;
  };
  void run();
  std::size_t waiting() const { return handed_over_ - written_; }
  Job& next() { return jobs_[handed_over_ % jobs_.size()]; }

  std::vector<Job> jobs_;  // a ring
  std::mutex mutex_;
  std::condition_variable queued_, written_some_;
  std::size_t handed_over_ = 0, written_ = 0;
  std::exception_ptr failure_;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace godwit::engine
