#include "agent/engine/resources/file_entry.h"
#include "agent/engine/resources/pidfd.h"
#include "agent/engine/resources/round_trip.h"

#include <csignal>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

namespace godwit::engine::resources {
namespace {

TEST(Survey, bears_descriptors_that_come_and_go) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::alarm(20);
    for (;;) {
      int ends[2];
      if (::pipe(ends) != 0) ::_exit(1);
      const int event = ::eventfd(0, 0);
      const int file = ::open("/dev/null", O_RDONLY);
      for (const int fd : {ends[0], ends[1], event, file}) ::close(fd);
    }
  }
  for (int i = 0; i < 30; ++i) survey_fds(pid, {});
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
}

TEST(Survey, of_a_task_that_is_gone_says_so) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(0);
  ::waitpid(pid, nullptr, 0);
  try {
    survey_fds(pid, {});
    ADD_FAILURE() << "found it";
  } catch (const Error& e) {
    EXPECT_EQ(Errc::target_gone, e.errc());
  }
}

TEST(Survey, sees_sockets_in_the_network_namespace_of_the_task) {
  const StoppedChild child([] {
    place(::socket(AF_UNIX, SOCK_STREAM, 0), 4);  // stays behind in the old one
    check(::unshare(CLONE_NEWNET), "unshare");
    int ends[2];
    check(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "make a pair");
    place(ends[1], 6);
    place(ends[0], 5);
  });
  const std::vector<Refusal> refusals = survey_fds(child.pid(), {}).refusals;
  ASSERT_EQ(1u, refusals.size());
  EXPECT_THAT(refusals[0].what, ::testing::StartsWith("fd 4: "));
  EXPECT_THAT(refusals[0].reason, ::testing::HasSubstr("another network namespace"));
}

TEST(Restore, leaves_nothing_open_but_the_table_and_what_is_kept) {
  EXPECT_EQ("", round_trip([] { place(::eventfd(0, 0), 40); },
                           [] {
                             std::vector<int> open;
                             for (int fd = 0; fd < 1000; ++fd) {
                               if (::fcntl(fd, F_GETFD) >= 0) open.push_back(fd);
                             }
                             return open == std::vector<int>{0, 1, 2, 40, 900} ? "" : "other descriptors are open";
                           }));
}

TEST(Restore, refuses_images_whose_parts_are_missing) {
  const StoppedChild child([] { place(::eventfd(0, 0), 40); });
  const Dumped dumped = dump_table(child);
  Dumped broken;
  for (const auto& [name, bytes] : dumped.images.files()) {
    if (name != "files.img") broken.images.put_file(name, bytes);
  }
  EXPECT_THAT(restore_and_verify(broken, [] { return std::string("restored"); }),
              ::testing::HasSubstr("files.img has no file"));
}

TEST(FileEntry, types_are_named_as_in_the_images) {
  for (int type = image::FdType_MIN; type <= image::FdType_MAX; ++type)
    EXPECT_EQ(type_name(static_cast<image::FdType>(type)), image::FdType_Name(static_cast<image::FdType>(type)));
}

TEST(Dump, of_the_same_task_twice_says_the_same) {
  const StoppedChild child([] {
    place(::eventfd(3, 0), 40);
    check(::dup2(40, 41), "share");
  });
  EXPECT_EQ(dump_table(child).images.files(), dump_table(child).images.files());
}

}  // namespace
}  // namespace godwit::engine::resources
