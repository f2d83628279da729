#include "agent/engine/resources/round_trip.h"

#include <csignal>
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mqueue.h>
#include <sys/file.h>
#include <sys/syscall.h>

namespace godwit::engine::resources {
namespace {

class Files : public ::testing::Test {
 protected:
  Files() {
    char name[] = "/tmp/godwit-files-XXXXXX";
    directory_ = ::mkdtemp(name);
  }
  ~Files() override { std::filesystem::remove_all(directory_); }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  std::string directory_;
};

std::string refusal_of(const StoppedChild& child) {
  const FdSurvey survey = survey_fds(child.pid(), {});
  return survey.refusals.empty() ? "" : survey.refusals.front().reason;
}

TEST_F(Files, keep_position_flags_and_sharing) {
  write_file(path("a"), "0123456789");
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::open(path("a").c_str(), O_RDWR | O_APPEND), 5);
                      ::lseek(5, 4, SEEK_SET);
                      check(::dup3(5, 8, O_CLOEXEC), "share");
                      place(::open(path("a").c_str(), O_RDONLY), 6);
                    },
                    [&] {
                      std::string wrong = differs("position", 4, ::lseek(8, 0, SEEK_CUR));
                      ::lseek(5, 7, SEEK_SET);
                      wrong += differs("shared position", 7, ::lseek(8, 0, SEEK_CUR));
                      wrong += differs("own position", 0, ::lseek(6, 0, SEEK_CUR));
                      wrong += differs("append", true, (::fcntl(5, F_GETFL) & O_APPEND) != 0);
                      wrong += differs("close on exec", FD_CLOEXEC, ::fcntl(8, F_GETFD));
                      wrong += differs("not that one", 0, ::fcntl(5, F_GETFD));
                      wrong += differs("no other", -1, ::fcntl(7, F_GETFD));
                      return wrong;
                    }));
}

TEST_F(Files, send_their_signals_to_the_same_task) {
  // Whatever PID the task has: the child that restores stands in for it.
  Dumped dumped;
  {
    const StoppedChild child([&] {
      place(::open(path("a").c_str(), O_RDWR | O_CREAT, 0600), 4);
      check(::fcntl(4, F_SETOWN, ::getpid()), "own");
      check(::fcntl(4, F_SETSIG, SIGUSR1), "choose a signal");
    });
    dumped = dump_table(child);
  }
  EXPECT_EQ("", restore_and_verify(dumped, [] {
              return differs("owner", ::getpid(), ::fcntl(4, F_GETOWN))
                     << differs("signal", SIGUSR1, ::fcntl(4, F_GETSIG));
            }));
}

TEST_F(Files, that_signal_another_process_are_refused) {
  const StoppedChild child([&] {
    place(::open(path("a").c_str(), O_RDWR | O_CREAT, 0600), 4);
    check(::fcntl(4, F_SETOWN, ::getppid()), "own");
  });
  EXPECT_THAT(refusal_of(child), ::testing::HasSubstr("SIGIO goes to process"));
}

TEST_F(Files, working_directory_and_umask_come_back) {
  EXPECT_EQ("", round_trip(
                    [&] {
                      check(::chdir(directory_.c_str()), "enter");
                      ::umask(0137);
                    },
                    [&] {
                      return differs("cwd", directory_, std::filesystem::current_path().string())
                             << differs("umask", 0137u, ::umask(0));
                    }));
}

TEST_F(Files, root_directory_comes_back) {
  std::filesystem::create_directory(path("jail"));
  write_file(path("jail/inside"), "x");
  EXPECT_EQ("", round_trip(
                    [&] {
                      check(::chroot(path("jail").c_str()), "chroot");
                      check(::chdir("/"), "enter");
                      place(::open("/inside", O_RDONLY), 4);
                    },
                    [&] {
                      return differs("inside", 0, ::access("/inside", F_OK))
                             << differs("content", "x", now_or_never(4, 9));
                    }));
}

TEST_F(Files, deleted_ones_travel_with_their_content) {
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::open(path("gone").c_str(), O_RDWR | O_CREAT, 0640), 4);
                      check(::ftruncate(4, 50'000), "make a hole");
                      check(::pwrite(4, "tail", 4, 49'000), "write");
                      ::lseek(4, 49'000, SEEK_SET);
                      place(::open(path("gone").c_str(), O_RDONLY), 5);
                      check(::unlink(path("gone").c_str()), "delete");
                    },
                    [&] {
                      struct stat st{};
                      ::fstat(4, &st);
                      std::string wrong = differs("size", 50'000, st.st_size) << differs("links", 0u, st.st_nlink);
                      wrong += differs("mode", 0100640u, st.st_mode) << differs("content", "tail", now_or_never(4, 4));
                      ::pwrite(4, "head", 4, 0);
                      return wrong << differs("same file", "head", now_or_never(5, 4));
                    }));
}

TEST_F(Files, deleted_ones_above_the_limit_are_refused) {
  const StoppedChild child([&] {
    place(::open(path("gone").c_str(), O_RDWR | O_CREAT, 0600), 4);
    const std::string bulk(2 << 20, 'x');
    check(::write(4, bulk.data(), bulk.size()), "write");
    check(::unlink(path("gone").c_str()), "delete");
  });
  EXPECT_THAT(refusal_of(child), ::testing::HasSubstr("more than the limit"));
}

TEST_F(Files, whose_name_belongs_to_another_file_are_refused) {
  const StoppedChild child([&] {
    place(::open(path("a").c_str(), O_RDWR | O_CREAT, 0600), 4);
    check(::link(path("a").c_str(), path("b").c_str()), "link");
    check(::unlink(path("a").c_str()), "delete");
    check(::close(::open(path("a").c_str(), O_RDWR | O_CREAT, 0600)), "make another");
  });
  EXPECT_NE("", refusal_of(child));
}

TEST_F(Files, with_a_lock_are_refused) {
  const StoppedChild child([&] {
    place(::open(path("a").c_str(), O_RDWR | O_CREAT, 0600), 4);
    check(::flock(4, LOCK_EX), "lock");
  });
  EXPECT_THAT(refusal_of(child), ::testing::HasSubstr("flock"));
}

TEST_F(Files, directories_devices_and_path_descriptors_come_back) {
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::open(directory_.c_str(), O_RDONLY | O_DIRECTORY), 4);
                      place(::open("/dev/urandom", O_RDONLY), 5);
                      place(::open("/etc/passwd", O_PATH), 6);
                      check(::symlink("nowhere", path("link").c_str()), "link");
                      place(::open(path("link").c_str(), O_PATH | O_NOFOLLOW), 7);
                    },
                    [&] {
                      struct stat st{};
                      std::string wrong = differs("directory", 0, ::faccessat(4, "link", F_OK, AT_SYMLINK_NOFOLLOW));
                      wrong += differs("random", 8u, now_or_never(5, 8).size());
                      wrong += differs("path only", "!Bad file descriptor", now_or_never(6, 8));
                      ::fstat(7, &st);
                      return wrong << differs("symbolic link", true, S_ISLNK(st.st_mode));
                    }));
}

TEST_F(Files, needed_at_the_destination_are_listed_and_compared_all_at_once) {
  write_file(path("a"), "12345");
  write_file(path("b"), "x");
  const StoppedChild child([&] {
    place(::open(path("a").c_str(), O_RDONLY), 4);
    place(::open(path("b").c_str(), O_WRONLY), 5);
  });
  std::vector<NeededFile> files = survey_fds(child.pid(), {}).files;
  EXPECT_THAT(check_files(files), ::testing::IsEmpty());
  EXPECT_EQ(
      1, std::ranges::count_if(files, [&](const NeededFile& file) { return file.path == path("b") && file.writable; }));
  write_file(path("a"), "123456");
  std::filesystem::remove(path("b"));
  EXPECT_THAT(check_files(files), ::testing::UnorderedElementsAre(::testing::HasSubstr("6 bytes here, 5 at the source"),
                                                                  ::testing::HasSubstr("b: missing")));
}

TEST_F(Files, of_another_build_are_told_apart_by_build_id) {
  const UniqueFd self = open_file("/proc/self/exe", O_RDONLY);
  NeededFile file = describe_file(self.get(), read_link("/proc/self/exe"), BuildId::read);
  EXPECT_THAT(check_files({file}), ::testing::IsEmpty());
  file.build_id = std::string(20, 'z');
  EXPECT_THAT(check_files({file}), ::testing::ElementsAre(::testing::HasSubstr("build-id")));
}

TEST(Pseudo, files_without_a_path_are_refused_by_name) {
  const StoppedChild child([] {
    place(::mq_open("/godwit-queue", O_RDWR | O_CREAT, 0600, nullptr), 4);
    check(::mq_unlink("/godwit-queue"), "unlink");
    place(static_cast<int>(::syscall(SYS_memfd_secret, 0)), 5);
  });
  const std::vector<Refusal> refusals = survey_fds(child.pid(), {}).refusals;
  ASSERT_EQ(2u, refusals.size());
  EXPECT_THAT(refusals[0].reason, ::testing::HasSubstr("mqueue"));
  EXPECT_THAT(refusals[1].reason, ::testing::HasSubstr("secret"));
}

TEST(Devices, with_state_are_refused_by_name) {
  const StoppedChild child([] { place(::open("/dev/kmsg", O_RDONLY), 4); });
  EXPECT_THAT(refusal_of(child), ::testing::HasSubstr("the state of device 1:11"));
}

}  // namespace
}  // namespace godwit::engine::resources
