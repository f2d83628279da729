#include "common/proc/kept_directories.h"
#include "common/proc/reader.h"

#include <gtest/gtest.h>

#include <csignal>
#include <optional>

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::proc {
namespace {

bool share_a_directory(const Reader& one, const Reader& other) {
  const pid_t self = ::getpid();
  return ::syscall(SYS_kcmp, self, self, KCMP_FILE, one.dir(), other.dir()) == 0;
}

TEST(KeptDirectories, are_opened_once) {
  const pid_t self = ::getpid();
  std::optional<Reader> outlives;
  {
    const KeptDirectories kept;
    const Reader one(self), other(self), parent(::getppid()), thread(self, ::gettid());
    EXPECT_TRUE(share_a_directory(one, other));
    EXPECT_FALSE(share_a_directory(one, parent));
    EXPECT_FALSE(share_a_directory(one, thread));
    {
      const KeptDirectories for_a_while;
      EXPECT_FALSE(share_a_directory(one, Reader(self)));
    }
    EXPECT_TRUE(share_a_directory(one, Reader(self)));
    outlives.emplace(self);
  }
  EXPECT_EQ(outlives->stat().pid, self);
  EXPECT_FALSE(share_a_directory(*outlives, Reader(self)));
}

TEST(KeptDirectories, of_who_has_ended_say_so) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::pause());
  const KeptDirectories kept;
  EXPECT_EQ(Reader(child).stat().pid, child);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  try {
    Reader(child).status();
    ADD_FAILURE() << "it is gone";
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::target_gone) << e.message();
  }
}

TEST(KeptDirectories, are_not_more_than_a_few_hundred) {
  const KeptDirectories kept;
  std::size_t shared = 0;
  std::vector<pid_t> children;
  for (int i = 0; i < 300; i++) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(::pause());
    children.push_back(child);
    const Reader one(child), other(child);
    EXPECT_EQ(other.stat().pid, child);
    shared += share_a_directory(one, other);
  }
  EXPECT_EQ(shared, 256u);
  for (const pid_t child : children) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  }
}

}  // namespace
}  // namespace godwit::proc
