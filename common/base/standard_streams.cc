#include "common/base/standard_streams.h"

#include "common/base/check.h"

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include <fcntl.h>
#include <unistd.h>

namespace godwit {

void open_standard_streams() {
  constexpr std::array modes{O_RDONLY, O_RDONLY, O_WRONLY};  // so that a write to standard output fails
  for (int fd = 0; fd < static_cast<int>(modes.size()); fd++)
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", modes[static_cast<std::size_t>(fd)]) != fd) std::_Exit(1);
}

void survive_broken_pipes() {
  struct sigaction go_on{};
  go_on.sa_handler = [](int) {};
  check(::sigaction(SIGPIPE, &go_on, nullptr), "handle SIGPIPE");
}

void finish_output() {
  const bool failed = std::ferror(stdout) != 0;
  if (std::fflush(stdout) != 0) {
    const int e = errno;
    throw syscall_error(e, "write to standard output");
  }
  if (failed) fail(Errc::internal, "standard output: not everything could be written");
}

}  // namespace godwit
