// A part of a pages file: what is in it for a task.
//
// Mapped, what the kernel copies from it into the task is copied once. Only for system calls, which answer EFAULT where
// the file has become shorter meanwhile; reading it here would be a SIGBUS. What is to be read here as well, to be
// compared with what the task has, is copied.
#pragma once

#include "common/base/buffer.h"

#include <cstddef>
#include <cstdint>
#include <span>

#include <sys/types.h>

namespace godwit::engine {

class PageWindow {
 public:
  // `offset` is a multiple of the page size. The descriptor is not needed afterwards.
  PageWindow(int fd, off_t offset, std::size_t length);                // mapped
  PageWindow(int fd, off_t offset, std::size_t length, Buffer& room);  // copied into `room`, which outlives it
  ~PageWindow();
  PageWindow(const PageWindow&) = delete;
  PageWindow& operator=(const PageWindow&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
  bool mapped_ = false;
};

}  // namespace godwit::engine
