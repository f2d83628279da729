#include "common/base/lock_file.h"

#include <thread>

#include <sys/file.h>

namespace godwit {

UniqueFd take_lock(const std::string& path, std::chrono::milliseconds patience) {
  UniqueFd fd = open_file(path, O_RDWR | O_CREAT, 0600);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) == -1) {
    if (errno != EWOULDBLOCK) check(-1, "lock {}", path);
    if (std::chrono::steady_clock::now() >= deadline) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return fd;
}

}  // namespace godwit
