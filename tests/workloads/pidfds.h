#pragma once
// pidfds, of processes and of threads, and what they tell.

#include "tests/workloads/descriptors.h"
#include "tests/workloads/workload.h"

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::workloads {

constexpr int of_thread = O_EXCL;  // PIDFD_THREAD

inline int open_process(pid_t pid, int flags = 0) {
  return must(static_cast<int>(syscall(SYS_pidfd_open, pid, flags)), "pidfd_open");
}

inline int signal_to(int fd, int signal) {
  return static_cast<int>(syscall(SYS_pidfd_send_signal, fd, signal, nullptr, 0));
}

// What poll(2) says; 0: it is alive.
inline int events_of(int fd) {
  pollfd one{fd, POLLIN, 0};
  return poll(&one, 1, 0) == 1 ? one.revents : 0;
}

inline bool ended(int fd) { return events_of(fd) != 0; }

// -1: it has been waited for.
inline pid_t process_of(int fd) { return atoi(fdinfo(fd, {"Pid:"}).substr(4).c_str()); }

// How it ended, as PIDFD_GET_INFO tells since 6.15; -1: it does not.
inline int end_of(int fd) {
  struct {
    std::uint64_t mask = 1 << 3, cgroup = 0;
    std::uint32_t ids[11] = {};
    std::int32_t exit_code = 0;
  } info;
  if (ioctl(fd, _IOWR(0xFF, 11, info), &info) != 0 || (info.mask & 1 << 3) == 0) return -1;
  return info.exit_code;
}

constexpr std::uint64_t of_the_watched = 0x1234;

// An epoll instance that tells of the end of one.
inline int watch_for_end(int fd) {
  const int watch = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = of_the_watched}};
  must(epoll_ctl(watch, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
  return watch;
}

// What it tells of within the time; 0: nothing.
inline std::uint64_t told_by(int watch, int milliseconds) {
  epoll_event event{};
  int count = 0;
  do {
    count = epoll_wait(watch, &event, 1, milliseconds);
  } while (count == -1 && errno == EINTR);
  must(count, "epoll_wait");
  return event.data.u64;
}

}  // namespace godwit::workloads
