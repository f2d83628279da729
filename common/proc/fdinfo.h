// /proc/PID/fdinfo/FD. The common part, and per kind of file what the kernel says about it; what a file is
// not stays empty. Unknown lines are ignored. Errors: Errc::internal, also when pos or flags are missing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

namespace godwit::proc {

struct EventfdInfo {
  std::uint64_t count = 0;
  bool semaphore = false;  // 5.2+; before, nobody tells
  std::optional<std::int64_t> id;
};

struct EpollTarget {
  std::int32_t fd = 0;  // the number it was added under; the descriptor may be closed or another file by now
  std::uint32_t events = 0;
  std::uint64_t data = 0;
  std::int64_t pos = 0;
  std::uint64_t inode = 0;  // of the watched file: tells whether fd is still the same
  std::uint32_t dev = 0;    // kernel encoding, see dev_of()
};

struct TimerfdInfo {
  std::int32_t clock = 0;
  std::uint64_t ticks = 0;  // expirations not yet read
  std::uint32_t settime_flags = 0;
  std::int64_t value_s = 0;  // time left, also of an absolute timer
  std::int64_t value_ns = 0;
  std::int64_t interval_s = 0;
  std::int64_t interval_ns = 0;
};

struct InotifyWatch {
  std::int32_t wd = 0;
  std::uint64_t inode = 0;
  std::uint32_t dev = 0;  // kernel encoding
  std::uint32_t mask = 0;
  std::uint32_t ignored_mask = 0;
  std::optional<std::int32_t> handle_type;  // none: the file system has no handles
  std::string handle;                       // bytes
};

struct PidfdInfo {
  pid_t pid = 0;  // -1: reaped; 0: not in this PID namespace
  std::vector<pid_t> ns_pid;
};

enum class LockKind { posix = 1, flock, ofd, lease, other };

struct FileLock {
  LockKind kind = LockKind::other;
  bool mandatory = false;
  bool breaking = false;  // a lease that somebody else wants gone
  bool write = false;
  pid_t pid = 0;  // -1 for OFD locks
  std::int64_t start = 0;
  std::optional<std::int64_t> end;  // last byte; none: to the end of the file
};

struct Fdinfo {
  std::int64_t pos = 0;
  std::uint32_t flags = 0;  // O_*, with O_CLOEXEC of the descriptor
  std::int64_t mnt_id = 0;
  std::uint64_t inode = 0;

  std::optional<EventfdInfo> eventfd;
  std::vector<EpollTarget> epoll;
  std::optional<TimerfdInfo> timerfd;
  std::optional<std::uint64_t> signalfd_mask;
  std::vector<InotifyWatch> inotify;
  bool fanotify = false;
  std::optional<PidfdInfo> pidfd;
  std::optional<std::int32_t> tty_index;
  std::vector<FileLock> locks;
};

Fdinfo parse_fdinfo(std::string_view text);

// The dev_t of stat(2) for a device number in the kernel's own encoding.
dev_t dev_of(std::uint32_t kernel_dev);

}  // namespace godwit::proc
