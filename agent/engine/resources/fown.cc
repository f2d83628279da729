#include "agent/engine/resources/fown.h"

#include "agent/engine/resources/become.h"

#include <algorithm>

namespace godwit::engine::resources {
namespace {

constexpr int f_getowner_uids = 17;  // linux/fcntl.h, which clashes with <fcntl.h>

pid_t guest_pid(pid_t pid, int type) {
  const proc::Status status = proc::Reader(pid).status();
  const std::vector<pid_t>& pids = type == F_OWNER_PGRP ? status.ns_pgid : status.ns_pid;
  return pids.empty() ? pid : pids.back();
}

bool is_nested(pid_t pid, const std::vector<pid_t>& tree) {
  if (tree.empty()) return false;
  const auto ids = [](pid_t one) { return proc::Reader(one).status().ns_pid.size(); };
  return ids(pid) != ids(tree.front());
}

}  // namespace

std::optional<Refusal> refuse_fown(const FdView& view, const std::vector<pid_t>& tree) {
  f_owner_ex owner{};
  if (::fcntl(view.fd, F_GETOWN_EX, &owner) != 0 || owner.pid == 0) return std::nullopt;
  if (owner.pid == view.pid || std::ranges::find(tree, owner.pid) != tree.end()) {
    if (!is_nested(owner.pid, tree)) return std::nullopt;
    return Refusal{view.describe(),
                   fmt::format("its SIGIO goes to process {}, in a PID namespace below that of the tree", owner.pid),
                   "make a task of the tree's own namespace the owner"};
  }
  return Refusal{view.describe(), fmt::format("its SIGIO goes to process {}", owner.pid),
                 "make a task of the tree the owner"};
}

image::FownEntry dump_fown(int fd) {
  f_owner_ex owner{};
  std::uint32_t uids[2]{};
  // An O_PATH descriptor answers EBADF to all of these: it has no owner.
  if (::fcntl(fd, F_GETOWN_EX, &owner) == 0 && owner.pid != 0) {
    check(::fcntl(fd, f_getowner_uids, uids), "read the credentials of a descriptor's owner");
    owner.pid = guest_pid(owner.pid, owner.type);
  }
  const int signal = ::fcntl(fd, F_GETSIG);
  image::FownEntry entry;
  entry.set_uid(uids[0]);
  entry.set_euid(uids[1]);
  entry.set_signum(signal > 0 ? static_cast<std::uint32_t>(signal) : 0);
  entry.set_pid_type(owner.pid != 0 ? static_cast<std::uint32_t>(owner.type) : 0);
  entry.set_pid(static_cast<std::uint32_t>(owner.pid));
  return entry;
}

void restore_fown(const image::FownEntry& entry, int fd, pid_t owner_pid) {
  if (entry.signum() != 0) {
    check(::fcntl(fd, F_SETSIG, static_cast<int>(entry.signum())), "set the signal {}", entry.signum());
  }
  if (entry.pid() == 0) return;
  const Become owner_of_the_file({.uid = entry.uid(), .euid = entry.euid()});
  const f_owner_ex owner{static_cast<__pid_type>(entry.pid_type()), owner_pid};
  check(::fcntl(fd, F_SETOWN_EX, &owner), "make task {} the owner of a descriptor", owner_pid);
}

}  // namespace godwit::engine::resources
