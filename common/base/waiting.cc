#include "common/base/waiting.h"

#include "common/base/check.h"

#include <algorithm>
#include <climits>

#include <poll.h>
#include <sys/wait.h>

namespace godwit {

int wait_for_child(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) check(-1, "wait for process {}", child);
  return status;
}

int shell_status(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

void wait_ready(int fd, short events, Clock::time_point deadline, std::string_view what) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd one{.fd = fd, .events = events, .revents = 0};
    const int n = ::poll(&one, 1, static_cast<int>(std::clamp<long>(left, 0, INT_MAX)));
    if (n < 0 && errno == EINTR) continue;
    check(n, "{}", what);
    if (n > 0) return;
    fail(Errc::timed_out, "{}: nothing happened in time", what);
  }
}

}  // namespace godwit
