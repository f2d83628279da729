#include "agent/engine/resources/fown.h"

#include "common/base/fd.h"
#include "common/proc/reader.h"

#include <cstdint>

#include <sys/syscall.h>

namespace godwit::engine::resources {
namespace {

constexpr int f_getowner_uids = 17;  // linux/fcntl.h, which clashes with <fcntl.h>

pid_t guest_pid(pid_t pid, int type) {
  const proc::Status status = proc::Reader(pid).status();
  const std::vector<pid_t>& pids = type == F_OWNER_PGRP ? status.ns_pgid : status.ns_pid;
  return pids.empty() ? pid : pids.back();
}

}  // namespace

image::FownEntry dump_fown(int fd) {
  image::FownEntry entry;
  f_owner_ex owner{};
  std::uint32_t uids[2]{};
  int signal = 0;
  // An O_PATH descriptor answers EBADF to all of these: it has no owner.
  if (::fcntl(fd, F_GETOWN_EX, &owner) == 0 && owner.pid != 0) {
    check(::fcntl(fd, f_getowner_uids, uids), "read the credentials of a descriptor's owner");
    owner.pid = guest_pid(owner.pid, owner.type);
  }
  signal = ::fcntl(fd, F_GETSIG);
  entry.set_uid(uids[0]);
  entry.set_euid(uids[1]);
  entry.set_signum(signal > 0 ? static_cast<std::uint32_t>(signal) : 0);
  entry.set_pid_type(owner.pid ? static_cast<std::uint32_t>(owner.type) : 0);
  entry.set_pid(static_cast<std::uint32_t>(owner.pid));
  return entry;
}

void restore_fown(const image::FownEntry& entry, int fd) {
  if (entry.signum() != 0)
    check(::fcntl(fd, F_SETSIG, static_cast<int>(entry.signum())), "set the signal {}", entry.signum());
  if (entry.pid() == 0) return;
  // The kernel notes the caller's credentials as the sender's. Raw calls: libc would change every thread. The saved
  // uid stays 0, which is the way back.
  check(::syscall(SYS_setresuid, entry.uid(), entry.euid(), 0), "become uid {} for a descriptor's owner", entry.uid());
  const f_owner_ex owner{static_cast<__pid_type>(entry.pid_type()), static_cast<pid_t>(entry.pid())};
  const int result = ::fcntl(fd, F_SETOWN_EX, &owner);
  const int error = errno;
  check(::syscall(SYS_setresuid, 0, 0, 0), "become root again");
  if (result < 0) throw syscall_error(error, fmt::format("make PID {} the owner of a descriptor", entry.pid()));
}

}  // namespace godwit::engine::resources
