#include "agent/engine/resources/sock_diag.h"

#include "common/base/check.h"

#include <linux/netlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

namespace godwit::engine::resources {
namespace {

int open_here() { return ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG); }

}  // namespace

UniqueFd open_sock_diag_beside(int fd) {
  const UniqueFd theirs(check(::ioctl(fd, SIOCGSKNS), "find the network namespace of a socket"));
  const UniqueFd ours = open_file("/proc/thread-self/ns/net", O_RDONLY);
  struct stat a{};
  struct stat b{};
  check(::fstat(theirs.get(), &a), "stat a network namespace");
  check(::fstat(ours.get(), &b), "stat a network namespace");
  if (a.st_ino == b.st_ino) return UniqueFd(check(open_here(), "open a diagnostic socket"));
  check(::setns(theirs.get(), CLONE_NEWNET), "enter the network namespace of a socket");
  UniqueFd netlink(open_here());
  const int error = errno;
  check(::setns(ours.get(), CLONE_NEWNET), "return to our network namespace");
  if (!netlink) throw syscall_error(error, "open a diagnostic socket");
  return netlink;
}

}  // namespace godwit::engine::resources
