// Owned file descriptors and the few whole-file helpers that everyone needs.
#pragma once

#include "common/base/check.h"

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <fcntl.h>
#include <sys/types.h>
#include <unistd.h>

namespace godwit {

// Owns one descriptor; closes it once. Linux frees the number even when close() says EINTR: never retry.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

UniqueFd open_at(int dir, const std::string& path, int flags, mode_t mode = 0);  // adds O_CLOEXEC
inline UniqueFd open_file(const std::string& path, int flags, mode_t mode = 0) {
  return open_at(AT_FDCWD, path, flags, mode);
}

// Opens `path` below `dir` and nowhere else: openat2 with BENEATH | NO_SYMLINKS | NO_XDEV (5.6+).
// For names that come from a peer or from a directory that an unprivileged process can write.
UniqueFd open_beneath(int dir, const std::string& path, int flags, mode_t mode = 0);

// Reads to the end; fails beyond `limit` bytes, so that a hostile file cannot exhaust memory.
std::string read_all(int fd, std::size_t limit = 256u << 20);
std::string read_file(const std::string& path, std::size_t limit = 256u << 20);
void write_all(int fd, std::span<const std::byte> data);
void write_all(int fd, std::string_view data);
void write_file(const std::string& path, std::string_view data, mode_t mode = 0600);  // creates or truncates
void read_exact(int fd, std::span<std::byte> into);                                   // short read: Errc::peer_lost
void pread_exact(int fd, std::span<std::byte> into, off_t offset);                    // short read: Errc::image_corrupt
void pwrite_all(int fd, std::span<const std::byte> data, off_t offset);
std::string read_link(const std::string& path);

std::pair<UniqueFd, UniqueFd> make_pipe(int flags = O_CLOEXEC);       // {read end, write end}
std::pair<UniqueFd, UniqueFd> make_socketpair(int domain, int type);  // adds SOCK_CLOEXEC

}  // namespace godwit
