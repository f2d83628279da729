// Pages on their way from the reader's buffers into the images: they are written by a thread of its own while the next
// ones are received and decrypted.
//
// Pages are borrowed until release() of their buffer, or drain(). Everything here is called from one thread, and throws
// what a write has thrown.
#pragma once

#include "common/base/worker.h"
#include "pageserver/criu/image_writer.h"

#include <cstddef>
#include <deque>
#include <future>
#include <span>
#include <vector>

namespace godwit::pageserver::criu {

class PageQueue {
 public:
  PageQueue(ImageWriter& images, std::size_t buffers) : images_(images), last_of_(buffers) {}  // borrowed
  ~PageQueue() { settle(); }
  PageQueue(const PageQueue&) = delete;
  PageQueue& operator=(const PageQueue&) = delete;

  // Behind all before them, in the open object.
  void add(std::span<const std::byte> pages);
  // Nothing more will come from buffer `full`; returns when everything of buffer `wanted` has been written.
  void release(std::size_t full, std::size_t wanted);
  // Returns when everything has been written: before the open object changes.
  void drain();

 private:
  void hand_over();
  void wait_for(std::size_t count);
  void settle() noexcept;

  ImageWriter& images_;
  std::vector<std::span<const std::byte>> gathered_;
  std::size_t gathered_bytes_ = 0;
  std::deque<std::future<void>> writing_;
  std::size_t handed_over_ = 0, written_ = 0;
  std::vector<std::size_t> last_of_;  // buffer -> how many were handed over with the last of it
  Worker writer_;
};

}  // namespace godwit::pageserver::criu
