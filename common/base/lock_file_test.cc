#include "common/base/lock_file.h"

#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include <stdlib.h>
#include <sys/wait.h>

namespace godwit {
namespace {

using namespace std::chrono_literals;

class LockFile : public testing::Test {
 protected:
  ~LockFile() override { std::filesystem::remove_all(directory); }

  std::string directory = [] {
    char name[] = "/tmp/godwit-lock-XXXXXX";
    return std::string(::mkdtemp(name));
  }();
  std::string path = directory + "/lock";
};

TEST_F(LockFile, is_had_by_one_until_it_lets_go) {
  UniqueFd one = take_lock(path);
  EXPECT_TRUE(one);
  EXPECT_FALSE(take_lock(path, 0ms));
  one.reset();
  EXPECT_TRUE(take_lock(path, 0ms));
}

TEST_F(LockFile, is_waited_for_a_moment) {
  UniqueFd one = take_lock(path);
  std::jthread dying([&] {
    std::this_thread::sleep_for(50ms);
    one.reset();
  });
  EXPECT_TRUE(take_lock(path, 10s));
}

TEST_F(LockFile, is_not_inherited_by_a_program_that_its_holder_starts) {
  UniqueFd lock = take_lock(path);
  const auto [wait_read, wait_write] = make_pipe(0);
  const pid_t child = check(::fork(), "fork");
  if (child == 0) {
    ::dup2(wait_read.get(), 0);
    ::execl("/bin/cat", "cat", nullptr);
    ::_exit(127);
  }
  const std::string exe = "/proc/" + std::to_string(child) + "/exe", us = read_link("/proc/self/exe");
  while (read_link(exe) == us) ::usleep(1000);
  lock.reset();
  EXPECT_TRUE(take_lock(path, 0ms));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

TEST_F(LockFile, that_cannot_be_made_is_an_error) { EXPECT_THROW(take_lock(directory + "/none/lock"), Error); }

}  // namespace
}  // namespace godwit
