#include "agent/engine/resources/fd_view.h"
#include "agent/engine/resources/pidfd.h"
#include "agent/engine/resources/process_file.h"
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

void place_ended(int status, unsigned flags) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (WIFSIGNALED(status)) ::raise(WTERMSIG(status));
    ::_exit(WEXITSTATUS(status));
  }
  place(pidfd_open(child, flags), number);
  ::waitpid(child, nullptr, 0);
}

std::string round_trip_of_ended(int status, unsigned flags) {
  return round_trip([&] { place_ended(status, flags); },
                    [&] {
                      siginfo_t none{};
                      const auto kind = static_cast<unsigned>(::fcntl(number, F_GETFL)) & pidfd_of_thread;
                      return differs("process", -1, process_behind(number))
                             << differs("ended", true, has_ended(number)) << differs("kind", flags, kind)
                             << differs("waited for", -1, ::waitid(P_PIDFD, number, &none, WEXITED | WNOHANG));
                    });
}

TEST(ProcessFile, stands_for_one_that_has_ended) {
  for (const int status : {0, 7 << 8, SIGKILL + 0}) EXPECT_EQ("", round_trip_of_ended(status, 0));
}

TEST(ProcessFile, stands_for_a_thread_that_has_ended) {
  const UniqueFd thread(pidfd_open(::getpid(), pidfd_of_thread));
  if (!thread) GTEST_SKIP() << "Linux before 6.9";
  EXPECT_EQ("", round_trip_of_ended(7 << 8, pidfd_of_thread));
}

TEST(ProcessFile, waits_for_a_thread_only_where_it_stands_for_one) {
  image::FileEntry entry;
  EXPECT_EQ(process_file::thread_of(entry), std::nullopt);
  entry.mutable_pidfd()->set_nspid(42);
  EXPECT_EQ(process_file::thread_of(entry), std::nullopt) << "for a process";
  entry.mutable_pidfd()->set_flags(pidfd_of_thread);
  EXPECT_EQ(process_file::thread_of(entry), 42);
  entry.mutable_pidfd()->set_nspid(-1);
  EXPECT_EQ(process_file::thread_of(entry), std::nullopt) << "one that has been waited for";
}

}  // namespace
}  // namespace godwit::engine::resources
