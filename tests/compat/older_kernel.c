// Preloaded into a CRIU that is older than the kernel. From 6.16 on only unix sockets (and netlink's) have SO_PASSCRED and
// SO_PASSSEC; CRIU 4.1.1 asks every socket for them. Before, those of the internet answered 0.
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

int getsockopt(int fd, int level, int option, void* value, socklen_t* size) {
  const int failed = (int)syscall(SYS_getsockopt, fd, level, option, value, size);
  if (failed == 0 || errno != EOPNOTSUPP || level != SOL_SOCKET || *size != sizeof(int)) return failed;
  if (option != SO_PASSCRED && option != SO_PASSSEC) return failed;
  *(int*)value = 0;
  return 0;
}
