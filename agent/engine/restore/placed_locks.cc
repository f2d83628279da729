#include "agent/engine/restore/placed_locks.h"

#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/proc/locks.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>

namespace godwit::engine::placed_locks {
namespace {

std::string describe(const image::FileLockEntry& lock) {
  const std::string name = image::FileLockKind_IsValid(static_cast<int>(lock.flag()))
                               ? image::FileLockKind_Name(static_cast<image::FileLockKind>(lock.flag()))
                               : fmt::format("lock of kind {}", lock.flag());
  return fmt::format("descriptor {}: {} from {}, {} bytes", lock.fd(), name, lock.start(), lock.len());
}

std::size_t add(Batch& batch, const image::FileLockEntry& lock) {
  constexpr std::string_view what = "place a lock";
  if (lock.type() != F_RDLCK && lock.type() != F_WRLCK)
    fail(Errc::unsupported, "filelocks.img: {}: type {}", describe(lock), lock.type());
  const bool write = lock.type() == F_WRLCK;
  struct flock range{};
  range.l_type = static_cast<short>(lock.type());
  range.l_whence = SEEK_SET;
  range.l_start = lock.start();
  range.l_len = lock.len();
  switch (lock.flag()) {
    case image::FILE_LOCK_POSIX: return batch.attempt(what, SYS_fcntl, lock.fd(), F_SETLK, batch.put(range));
    case image::FILE_LOCK_OFD: return batch.attempt(what, SYS_fcntl, lock.fd(), F_OFD_SETLK, batch.put(range));
    case image::FILE_LOCK_FLOCK:
      return batch.attempt(what, SYS_flock, lock.fd(), (write ? LOCK_EX : LOCK_SH) | LOCK_NB);
    case image::FILE_LOCK_LEASE: return batch.attempt(what, SYS_fcntl, lock.fd(), F_SETLEASE, lock.type());
    default: fail(Errc::unsupported, "filelocks.img: {}", describe(lock));
  }
}

// Who has a lock of the file, for the error; empty when that cannot be told.
std::string holder_of(pid_t task, int number) {
  const std::string path = fmt::format("/proc/{}/fd/{}", task, number);
  struct stat st{};
  if (::stat(path.c_str(), &st) != 0) return {};
  const std::string wanted = proc::locked_file(st.st_dev, st.st_ino);
  for (const proc::Lock& lock : proc::parse_locks(read_file("/proc/locks")))
    if (lock.file == wanted && lock.pid > 0 && lock.pid != task) return fmt::format(" by process {}", lock.pid);
  return {};
}

void check_result(long result, const image::FileLockEntry& lock, pid_t task) {
  if (result >= 0) return;
  if (result == -EAGAIN || result == -EACCES)
    throw Error(Errc::already_exists,
                fmt::format("{}: {} is locked{}", describe(lock),
                            read_link(fmt::format("/proc/{}/fd/{}", task, lock.fd())), holder_of(task, lock.fd())),
                "restore when the lock is free, after the end of the original say");
  if (result == -EBADF) fail(Errc::image_corrupt, "filelocks.img: {}, which is not open for that", describe(lock));
  throw syscall_error(static_cast<int>(-result), fmt::format("place a lock: {}", describe(lock)));
}

}  // namespace

void restore(RemoteSyscalls& remote, RemoteAddr scratch, std::span<const image::FileLockEntry> locks) {
  Batch batch(scratch);
  std::vector<std::pair<std::size_t, const image::FileLockEntry*>> placed;
  const auto run = [&] {
    remote.run(batch);
    for (const auto& [call, lock] : placed) check_result(batch.result(call), *lock, remote.pid());
    placed.clear();
    batch.clear();
  };
  for (const image::FileLockEntry& lock : locks) {
    if (!batch.fits(1, sizeof(struct flock))) run();
    placed.emplace_back(add(batch, lock), &lock);
  }
  run();
}

}  // namespace godwit::engine::placed_locks
