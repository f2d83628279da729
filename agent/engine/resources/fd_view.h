// One descriptor of a task, as its kind sees it: our copy, what /proc says, what stat says.
#pragma once

#include "common/base/fd.h"
#include "common/proc/reader.h"

#include <optional>
#include <string>

#include <sys/stat.h>

namespace godwit::engine::resources {

struct SocketType {
  int domain = 0;
  int type = 0;
  int protocol = 0;
  int tcp_state = 0;  // TCP_ESTABLISHED and so on; 0: not TCP
};

struct FdView {
  pid_t pid = 0;
  int number = 0;
  int fd = -1;       // our copy by pidfd_getfd, borrowed: same open file, so reading it would consume
  std::string link;  // of /proc/PID/fd
  proc::Fdinfo info;
  struct stat st{};
  std::optional<SocketType> socket;  // of sockets

  std::uint32_t flags() const { return info.flags & ~std::uint32_t{O_CLOEXEC}; }
  std::string describe() const;  // "fd 7: anon_inode:[eventfd]"
};

struct OwnedFdView {
  FdView view;
  UniqueFd copy;
};

// Nothing when the descriptor is no longer there.
std::optional<OwnedFdView> view_fd(const proc::Reader& proc, pid_t pid, int pidfd, int number);

// The view of a descriptor of this process, for tests and for looking again: `fd` is borrowed.
FdView view_own_fd(int fd);

// Reads fdinfo again: some kinds settle their state when asked about it.
proc::Fdinfo read_own_fdinfo(int fd);

}  // namespace godwit::engine::resources
