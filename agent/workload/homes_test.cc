#include "agent/workload/homes.h"

#include "agent/workload/spawn.h"
#include "agent/workload/test_cgroup.h"

#include <gmock/gmock.h>

#include <csignal>
#include <filesystem>

#include <sys/wait.h>

namespace godwit::workload {
namespace {

TEST(Homes, are_read_as_they_were_written) {
  const std::vector<Home> read = parse_homes(note_of({{7, 123, "/sys/fs/cgroup/a b"}, {8, 124, "/sys/fs/cgroup"}}));
  ASSERT_EQ(read.size(), 2u);
  EXPECT_EQ(read[0].pid, 7);
  EXPECT_EQ(read[0].start_time, 123u);
  EXPECT_EQ(read[0].cgroup, "/sys/fs/cgroup/a b");
  EXPECT_EQ(read[1].cgroup, "/sys/fs/cgroup");
}

TEST(Homes, that_are_none_are_refused) {
  for (const char* text : {"", "7 123\n", "x 1 /a\n", "7 1 a/b\n", "-7 1 /a\n", "7 1 /a/../b\n"})
    EXPECT_THROW(parse_homes(text), Error) << text;
}

TEST(Homes, that_were_removed_are_made_again) {
  TestCgroup root("homes");
  const std::string home = root.path() + "/service", copy = root.path() + "/copy";
  const std::string note = fmt::format("/tmp/godwit-homes-{}", ::getpid());
  Cgroup at = Cgroup::create(home);
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  at.add(child);
  note_homes(note, {{child, start_time_of(child), home}});
  Cgroup::create(copy).add(child);
  ASSERT_TRUE(at.remove());
  bring_home(copy, note, 50);
  EXPECT_EQ(cgroup_of(child, cgroup2_mount()), home);
  EXPECT_FALSE(std::filesystem::exists(copy));
  EXPECT_FALSE(std::filesystem::exists(note));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace godwit::workload
