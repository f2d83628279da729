// A part of a pages file, mapped: what the kernel copies from it into a task is copied once.
//
// Only for system calls, which answer EFAULT where the file has become shorter meanwhile; reading it here would be a
// SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <sys/types.h>

namespace godwit::engine {

class PageWindow {
 public:
  // `offset` is a multiple of the page size. The descriptor is not needed afterwards.
  PageWindow(int fd, off_t offset, std::size_t length);
  ~PageWindow();
  PageWindow(const PageWindow&) = delete;
  PageWindow& operator=(const PageWindow&) = delete;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace godwit::engine
