#include "agent/engine/memory/page_window.h"

#include "common/base/check.h"
#include "common/base/fd.h"

#include <sys/mman.h>

namespace godwit::engine {

PageWindow::PageWindow(int fd, off_t offset, std::size_t length) : mapped_(true) {
  void* at = ::mmap(nullptr, length, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, offset);
  if (at == MAP_FAILED) throw syscall_error(errno, fmt::format("map {} bytes of pages at {}", length, offset));
  bytes_ = {static_cast<const std::byte*>(at), length};
}

PageWindow::PageWindow(int fd, off_t offset, std::size_t length, Buffer& room) {
  if (room.size() < length) room.resize(length);
  const std::span into = std::span(room).first(length);
  pread_exact(fd, into, offset);
  bytes_ = into;
}

PageWindow::~PageWindow() {
  if (mapped_) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace godwit::engine
