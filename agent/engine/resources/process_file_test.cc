#include "agent/engine/resources/fd_view.h"
#include "agent/engine/resources/pidfd.h"
#include "agent/engine/resources/round_trip.h"

#include <csignal>

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>

namespace godwit::engine::resources {
namespace {

constexpr int number = 6;

// The process that is behind the descriptor, as /proc says.
pid_t process_behind(int fd) {
  const proc::Fdinfo info = read_own_fdinfo(fd);
  return info.pidfd ? info.pidfd->pid : -2;
}

bool has_ended(int fd) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, 0) == 1;
}

void place_ended(int status) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (WIFSIGNALED(status)) ::raise(WTERMSIG(status));
    ::_exit(WEXITSTATUS(status));
  }
  place(pidfd_open(child), number);
  ::waitpid(child, nullptr, 0);
}

TEST(ProcessFile, stands_for_one_that_has_ended) {
  for (const int status : {0, 7 << 8, SIGKILL + 0})
    EXPECT_EQ("", round_trip([&] { place_ended(status); },
                             [] {
                               siginfo_t none{};
                               return differs("process", -1, process_behind(number))
                                      << differs("ended", true, has_ended(number))
                                      << differs("waited for", -1, ::waitid(P_PIDFD, number, &none, WEXITED | WNOHANG));
                             }));
}

}  // namespace
}  // namespace godwit::engine::resources
