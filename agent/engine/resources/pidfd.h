// pidfd_open and pidfd_getfd. The libc of Debian 12 declares them without C linkage, so that they do not link.
#pragma once

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

namespace godwit::engine::resources {

inline constexpr unsigned pidfd_of_thread = O_EXCL;  // PIDFD_THREAD (6.9+)

inline int pidfd_open(pid_t pid, unsigned flags = 0) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, flags)); }
inline int pidfd_getfd(int pidfd, int number) { return static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd, number, 0)); }

}  // namespace godwit::engine::resources
