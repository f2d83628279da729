#include "agent/engine/resources/direct_io.h"

#include "common/proc/reader.h"

#include <algorithm>

#include <fcntl.h>

namespace godwit::engine::resources {

bool reads_directly(pid_t pid) {
  const proc::Reader proc(pid);
  return std::ranges::any_of(proc.fds(), [&](int number) {
    try {
      const std::uint32_t flags = proc.fdinfo(number).flags;
      // Of a pipe the flag means packets.
      return (flags & O_DIRECT) && (flags & O_ACCMODE) != O_WRONLY && proc.fd_link(number).starts_with('/');
    } catch (const Error& e) {
      if (e.sys_errno() != ENOENT) throw;
      return false;  // closed meanwhile
    }
  });
}

}  // namespace godwit::engine::resources
