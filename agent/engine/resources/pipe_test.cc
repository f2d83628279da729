#include "agent/engine/resources/pidfd.h"
#include "agent/engine/resources/round_trip.h"

#include <gtest/gtest.h>
#include <csignal>

#include <sys/ioctl.h>
#include <sys/wait.h>

namespace godwit::engine::resources {
namespace {

void make_pipe_at(int read_end, int write_end, int flags = 0) {
  int ends[2];
  check(::pipe2(ends, flags), "make a pipe");
  place(ends[1], write_end);
  place(ends[0], read_end);
}

TEST(Pipe, keeps_size_flags_and_content) {
  const std::string text(100'000, 'g');
  EXPECT_EQ("", round_trip(
                    [&] {
                      make_pipe_at(7, 9);
                      check(::fcntl(9, F_SETPIPE_SZ, 1 << 17), "set the size");
                      check(::fcntl(9, F_SETFL, O_NONBLOCK), "set flags");
                      check(::write(9, text.data(), text.size()), "fill");
                    },
                    [&] {
                      std::string wrong = differs("size", 1 << 17, ::fcntl(7, F_GETPIPE_SZ));
                      wrong += differs("read flags", O_RDONLY, ::fcntl(7, F_GETFL));
                      wrong += differs("write flags", O_WRONLY | O_NONBLOCK, ::fcntl(9, F_GETFL));
                      if (now_or_never(7, 200'000) != text) wrong += "content; ";
                      wrong += differs("still connected", 1, ::write(9, "x", 1))
                               << differs("echo", "x", now_or_never(7, 10));
                      ::close(9);
                      return wrong << differs("end", 0, ::read(7, wrong.data(), 1));
                    }));
}

TEST(Pipe, is_dumped_without_taking_anything_out) {
  const StoppedChild child([] {
    make_pipe_at(3, 4);
    check(::write(4, "abc", 3), "fill");
  });
  dump_table(child);
  dump_table(child);
  const UniqueFd copy(pidfd_getfd(child.task().pidfd, 3));
  int left = 0;
  ::ioctl(copy.get(), FIONREAD, &left);
  EXPECT_EQ(3, left);
}

TEST(Pipe, keeps_packets_apart) {
  EXPECT_EQ("", round_trip(
                    [] {
                      make_pipe_at(3, 4, O_DIRECT);
                      check(::write(4, "one", 3), "fill");
                      check(::write(4, "three", 5), "fill");
                    },
                    [] {
                      return differs("first", "one", now_or_never(3, 100))
                             << differs("second", "three", now_or_never(3, 100));
                    }));
}

TEST(Pipe, whose_reader_is_gone_stays_broken) {
  EXPECT_EQ("", round_trip(
                    [] {
                      make_pipe_at(3, 4);
                      ::close(3);
                    },
                    [] {
                      ::signal(SIGPIPE, SIG_IGN);
                      return differs("write", -1, ::write(4, "x", 1)) << differs("errno", EPIPE, errno);
                    }));
}

TEST(Pipe, reopened_end_is_another_open_file_of_the_same_pipe) {
  EXPECT_EQ("", round_trip(
                    [] {
                      make_pipe_at(3, 4);
                      place(::open("/proc/self/fd/4", O_WRONLY | O_NONBLOCK), 6);
                      place(::open("/proc/self/fd/3", O_RDWR), 8);
                      check(::dup2(4, 5), "share");
                    },
                    [] {
                      ::write(4, "a", 1);
                      ::write(5, "b", 1);
                      ::write(6, "c", 1);
                      ::write(8, "d", 1);
                      return differs("all", "abcd", now_or_never(3, 10))
                             << differs("own flags", true, (::fcntl(6, F_GETFL) & O_NONBLOCK) != 0)
                             << differs("shared flags", false, (::fcntl(5, F_GETFL) & O_NONBLOCK) != 0);
                    }));
}

TEST(Pipe, with_its_other_end_elsewhere_is_refused) {
  int ends[2];
  ASSERT_EQ(0, ::pipe2(ends, O_CLOEXEC));
  const int high = ::fcntl(ends[1], F_DUPFD, 100);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(high, 1);
    ::close_range(2, ~0u, 0);
    ::raise(SIGSTOP);
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(pid, &status, WUNTRACED);
  ::close(ends[1]);
  ::close(high);
  const FdSurvey survey = survey_fds(pid, {});
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  ::close(ends[0]);
  bool refused = false;
  for (const Refusal& refusal : survey.refusals) refused |= refusal.what.starts_with("fd 1: pipe:[");
  EXPECT_TRUE(refused);
}

}  // namespace
}  // namespace godwit::engine::resources
