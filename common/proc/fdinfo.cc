#include "common/proc/fdinfo.h"

#include "common/proc/text.h"

#include <sys/sysmacros.h>

namespace godwit::proc {
namespace {

constexpr std::string_view file = "fdinfo";

template <class T>
T& made(std::optional<T>& part) {
  return part ? *part : part.emplace();
}

void set_eventfd(EventfdInfo& info, const KeyValue& kv) {
  Scanner scan(file, kv.value);
  if (kv.key == "eventfd-count") info.count = scan.hex<std::uint64_t>();
  if (kv.key == "eventfd-id") info.id = scan.dec<std::int64_t>();
  if (kv.key == "eventfd-semaphore") info.semaphore = scan.dec<int>() != 0;
}

// tfd:        5 events:       1d data: deadbeef12345678  pos:0 ino:3066 sdev:f
EpollTarget epoll_target(std::string_view line) {
  Scanner scan(file, line);
  EpollTarget target;
  scan.expect("tfd:");
  target.fd = scan.dec<std::int32_t>();
  scan.expect("events:");
  target.events = scan.hex<std::uint32_t>();
  scan.expect("data:");
  target.data = scan.hex<std::uint64_t>();
  if (!scan.accept("pos:")) return target;  // the rest came with 4.13
  target.pos = scan.dec<std::int64_t>();
  scan.expect("ino:");
  target.inode = scan.hex<std::uint64_t>();
  scan.expect("sdev:");
  target.dev = scan.hex<std::uint32_t>();
  return target;
}

void set_pair(std::string_view value, std::int64_t& seconds, std::int64_t& nanoseconds) {
  Scanner scan(file, value);
  scan.expect("(");
  seconds = scan.dec<std::int64_t>();
  scan.expect(",");
  nanoseconds = scan.dec<std::int64_t>();
  scan.expect(")");
}

void set_timerfd(TimerfdInfo& info, const KeyValue& kv) {
  Scanner scan(file, kv.value);
  if (kv.key == "clockid") info.clock = scan.dec<std::int32_t>();
  if (kv.key == "ticks") info.ticks = scan.dec<std::uint64_t>();
  if (kv.key == "settime flags") info.settime_flags = scan.oct<std::uint32_t>();
  if (kv.key == "it_value") set_pair(kv.value, info.value_s, info.value_ns);
  if (kv.key == "it_interval") set_pair(kv.value, info.interval_s, info.interval_ns);
}

std::string bytes_of(Scanner& scan, std::string_view digits, std::uint32_t count) {
  if (digits.size() != std::size_t{count} * 2) scan.bad();
  std::string bytes;
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    Scanner pair(file, digits.substr(i, 2));
    bytes += static_cast<char>(pair.hex<unsigned char>());
    if (!pair.done()) scan.bad();
  }
  return bytes;
}

// inotify wd:1 ino:3c51a sdev:fe00000 mask:100 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:1ac50300...
InotifyWatch inotify_watch(std::string_view line) {
  Scanner scan(file, line);
  InotifyWatch watch;
  scan.expect("inotify");
  scan.expect("wd:");
  watch.wd = scan.hex<std::int32_t>();
  scan.expect("ino:");
  watch.inode = scan.hex<std::uint64_t>();
  scan.expect("sdev:");
  watch.dev = scan.hex<std::uint32_t>();
  scan.expect("mask:");
  watch.mask = scan.hex<std::uint32_t>();
  scan.expect("ignored_mask:");
  watch.ignored_mask = scan.hex<std::uint32_t>();
  if (!scan.accept("fhandle-bytes:")) return watch;
  const auto count = scan.hex<std::uint32_t>();
  scan.expect("fhandle-type:");
  watch.handle_type = scan.hex<std::int32_t>();
  scan.expect("f_handle:");
  if (count > 0) watch.handle = bytes_of(scan, scan.word(), count);
  return watch;
}

LockKind lock_kind(std::string_view word) {
  if (word == "POSIX") return LockKind::posix;
  if (word == "FLOCK") return LockKind::flock;
  if (word == "OFDLCK") return LockKind::ofd;
  if (word == "LEASE") return LockKind::lease;
  return LockKind::other;
}

// 1: POSIX  ADVISORY  WRITE 4766 fe:00:10952748 5 14
FileLock file_lock(std::string_view value) {
  Scanner scan(file, value);
  FileLock lock;
  scan.until(':');
  scan.accept("->");
  lock.kind = lock_kind(scan.word());
  const std::string_view state = scan.word();
  lock.mandatory = state == "MANDATORY";
  lock.breaking = state == "BREAKING";
  lock.write = scan.word() == "WRITE";
  lock.pid = scan.dec<pid_t>();
  scan.word();  // device and inode: those of the file itself
  lock.start = scan.dec<std::int64_t>();
  if (!scan.accept("EOF")) lock.end = scan.dec<std::int64_t>();
  return lock;
}

void set_pidfd(PidfdInfo& info, const KeyValue& kv) {
  Scanner scan(file, kv.value);
  if (kv.key == "Pid") info.pid = scan.dec<pid_t>();
  if (kv.key == "NSpid")
    while (!scan.done()) info.ns_pid.push_back(scan.dec<pid_t>());
}

void add(Fdinfo& info, std::string_view line, const KeyValue& kv) {
  const auto value = [&] { return Scanner(file, kv.value); };
  const std::string_view key = kv.key;
  if (key == "mnt_id")
    info.mnt_id = value().dec<std::int64_t>();
  else if (key == "ino")
    info.inode = value().dec<std::uint64_t>();
  else if (key.starts_with("eventfd-"))
    set_eventfd(made(info.eventfd), kv);
  else if (key == "tfd")
    info.epoll.push_back(epoll_target(line));
  else if (key == "clockid" || key == "ticks" || key == "settime flags" || key == "it_value" || key == "it_interval")
    set_timerfd(made(info.timerfd), kv);
  else if (key == "sigmask")
    info.signalfd_mask = value().hex<std::uint64_t>();
  else if (key == "inotify wd")
    info.inotify.push_back(inotify_watch(line));
  else if (key.starts_with("fanotify "))
    info.fanotify = true;
  else if (key == "Pid" || key == "NSpid")
    set_pidfd(made(info.pidfd), kv);
  else if (key == "tty-index")
    info.tty_index = value().dec<std::int32_t>();
  else if (key == "lock")
    info.locks.push_back(file_lock(kv.value));
}

}  // namespace

Fdinfo parse_fdinfo(std::string_view text) {
  Fdinfo info;
  bool has_pos = false;
  bool has_flags = false;
  while (const auto line = next_line(text)) {
    const std::optional<KeyValue> kv = key_value(*line);
    if (!kv) continue;
    // Each only once: what a driver prints below the common part may use the same words.
    if (kv->key == "pos" && !has_pos) {
      info.pos = Scanner(file, kv->value).dec<std::int64_t>();
      has_pos = true;
    } else if (kv->key == "flags" && !has_flags) {
      info.flags = Scanner(file, kv->value).oct<std::uint32_t>();
      has_flags = true;
    } else {
      add(info, *line, *kv);
    }
  }
  if (!has_pos || !has_flags) malformed(file, "no pos or no flags");
  return info;
}

dev_t dev_of(std::uint32_t kernel_dev) { return ::makedev(kernel_dev >> 20, kernel_dev & 0xfffff); }

}  // namespace godwit::proc
