// For tests: a tracker's userfaultfd, made by the process that is to be tracked.
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine {

inline int open_userfaultfd() {
  const int fd = static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = 1 << 12 | 1 << 13 | 1 << 15;  // as inject_userfaultfd
  return ::ioctl(fd, UFFDIO_API, &api) == 0 ? fd : -1;
}

}  // namespace godwit::engine
