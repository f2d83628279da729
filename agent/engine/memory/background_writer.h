// Writes buffers into files while the next one is being filled: reading a stopped process and writing what was read
// then take the time of the slower of the two, not of both.
//
// It has threads of its own, which do nothing but this: buffers are taken in the order in which they come, and each is
// written by another one. Where writing takes longer than filling, the caller may write, too, while the threads have
// enough to do: nobody waits for anybody then, and what he has just filled is in the caches of his CPU. Everything here
// is called from one thread.
#pragma once

#include "common/base/buffer.h"
#include "common/base/page_file.h"

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

namespace godwit::engine {

enum class Caller { only_fills = 1, writes_too };

class BackgroundWriter {
 public:
  // The threads may run on every CPU that the caller may run on now, also when the caller pins itself later. Where a
  // limit allows fewer of them, it does with those; Errc::internal when there is none.
  BackgroundWriter(std::size_t buffer_size, std::size_t threads, Caller caller = Caller::only_fills);
  ~BackgroundWriter();  // what was handed over is written, failures are dropped
  BackgroundWriter(const BackgroundWriter&) = delete;
  BackgroundWriter& operator=(const BackgroundWriter&) = delete;

  // The buffer to fill. The same one until it is handed over.
  std::span<std::byte> buffer();

  // Hands over the first `size` bytes of it, and what is to be done once they are written, on the same thread. `file`
  // is borrowed until finish(). Throws what a former write threw, or this one.
  using Then = std::function<void()>;
  void write(PageFile& file, std::uint64_t offset, std::size_t size, Then then = {});

  // Waits until everything is written. Throws the first failure.
  void finish();

 private:
  struct Job {
    PageFile* file = nullptr;
    std::uint64_t offset = 0;
    std::size_t size = 0;
    Buffer bytes;
    Then then;
    bool written = false;
  };
  bool callers_turn(const PageFile& file, std::uint64_t offset);
  void run();
  void do_one(std::unique_lock<std::mutex>& lock);
  std::size_t waiting() const { return handed_over_ - written_; }
  Job& job(std::size_t number) { return jobs_[number % jobs_.size()]; }

  Caller caller_;
  const PageFile* file_ = nullptr;  // of the block whose turn is decided
  std::uint64_t block_ = 0;
  bool callers_turn_ = false;
  std::vector<Job> jobs_;  // a ring
  std::mutex mutex_;
  std::condition_variable queued_, written_some_;
  std::size_t handed_over_ = 0, taken_ = 0, written_ = 0;  // all before the one with this number
  std::exception_ptr failure_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace godwit::engine
