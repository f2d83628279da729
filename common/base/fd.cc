#include "common/base/fd.h"

#include <array>
#include <cstdint>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/syscall.h>

namespace godwit {

UniqueFd open_at(int dir, const std::string& path, int flags, mode_t mode) {
  return UniqueFd(check(::openat(dir, path.c_str(), flags | O_CLOEXEC, mode), "open {}", path));
}

UniqueFd open_beneath(int dir, const std::string& path, int flags, mode_t mode) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & O_CREAT) ? mode : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
  return UniqueFd(
      static_cast<int>(check(::syscall(SYS_openat2, dir, path.c_str(), &how, sizeof how), "open {}", path)));
}

// Most files are small: nothing is cleared for what they might be.
std::string read_all(int fd, std::size_t limit) {
  std::string text;
  std::array<char, 65536> piece;
  for (;;) {
    const ssize_t n = ::read(fd, piece.data(), piece.size());
    if (n < 0 && errno == EINTR) continue;
    check(n, "read");
    if (n == 0) return text;
    text.append(piece.data(), static_cast<std::size_t>(n));
    if (text.size() > limit)
      fail(Errc::image_corrupt, "more than {} bytes where at most that many are expected", limit);
  }
}

std::string read_file(const std::string& path, std::size_t limit) {
  UniqueFd fd = open_file(path, O_RDONLY);
  Doing doing("read {}", path);
  return read_all(fd.get(), limit);
}

void write_all(int fd, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    check(n, "write {} bytes", data.size());
    data = data.subspan(static_cast<std::size_t>(n));
  }
}

void write_all(int fd, std::string_view data) { write_all(fd, std::as_bytes(std::span(data))); }

void write_file(const std::string& path, std::string_view data, mode_t mode) {
  UniqueFd fd = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
  Doing doing("write {}", path);
  write_all(fd.get(), data);
}

void read_exact(int fd, std::span<std::byte> into) {
  while (!into.empty()) {
    const ssize_t n = ::read(fd, into.data(), into.size());
    if (n < 0 && errno == EINTR) continue;
    check(n, "read {} bytes", into.size());
    if (n == 0) fail(Errc::peer_lost, "end of stream with {} bytes still expected", into.size());
    into = into.subspan(static_cast<std::size_t>(n));
  }
}

void pread_exact(int fd, std::span<std::byte> into, off_t offset) {
  while (!into.empty()) {
    const ssize_t n = ::pread(fd, into.data(), into.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    check(n, "read {} bytes at offset {}", into.size(), offset);
    if (n == 0) fail(Errc::image_corrupt, "file ends at offset {} with {} bytes still expected", offset, into.size());
    into = into.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
}

void pwrite_all(int fd, std::span<const std::byte> data, off_t offset) {
  while (!data.empty()) {
    const ssize_t n = ::pwrite(fd, data.data(), data.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    check(n, "write {} bytes at offset {}", data.size(), offset);
    data = data.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
}

std::string read_link(const std::string& path) {
  std::array<char, 4096> buffer;
  const ssize_t n = check(::readlink(path.c_str(), buffer.data(), buffer.size()), "readlink {}", path);
  return {buffer.data(), static_cast<std::size_t>(n)};
}

std::pair<UniqueFd, UniqueFd> make_pipe(int flags) {
  std::array<int, 2> ends{};
  check(::pipe2(ends.data(), flags | O_CLOEXEC), "create pipe");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

std::pair<UniqueFd, UniqueFd> make_socketpair(int domain, int type) {
  std::array<int, 2> ends{};
  check(::socketpair(domain, type | SOCK_CLOEXEC, 0, ends.data()), "create socket pair");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace godwit
