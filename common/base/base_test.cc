#include "common/base/check.h"
#include "common/base/fault.h"
#include "common/base/fd.h"
#include "common/base/rollback.h"
#include "common/base/units.h"

#include <gtest/gtest.h>

#include <csignal>

#include <sys/wait.h>

namespace godwit {
namespace {

TEST(Error, says_what_was_being_done_in_every_open_scope) {
  try {
    Doing outer("restoring task {}", 42);
    Doing inner("fd {}", 7);
    open_file("/nonexistent", O_RDONLY);
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "restoring task 42: fd 7: open /nonexistent: No such file or directory");
    EXPECT_EQ(e.errc(), Errc::not_found);
    EXPECT_EQ(e.sys_errno(), ENOENT);
  }
}

TEST(Error, names_round_trip) {
  for (int i = 1; i <= static_cast<int>(Errc::internal); i++)
    EXPECT_EQ(errc_from_name(name(static_cast<Errc>(i))), static_cast<Errc>(i));
}

TEST(Check, raw_results_that_look_like_addresses_are_no_errors) {
  EXPECT_EQ(check_raw(-5000, "mmap"), -5000);
  EXPECT_THROW(check_raw(-EPERM, "call"), Error);
}

TEST(Rollback, undoes_in_reverse_and_goes_on_after_a_failure) {
  std::string order;
  {
    Rollback undo;
    undo.add("first", [&] { order += "1"; });
    undo.add("second", [&] { fail(Errc::internal, "no"); });
    undo.add("third", [&] { order += "3"; });
  }
  EXPECT_EQ(order, "31");
}

TEST(Rollback, does_nothing_once_dismissed) {
  bool ran = false;
  {
    Rollback undo;
    undo.add("step", [&] { ran = true; });
    undo.dismiss();
  }
  EXPECT_FALSE(ran);
}

TEST(Units, sizes_are_read_and_written) {
  EXPECT_EQ(parse_bytes("4096"), 4096u);
  EXPECT_EQ(parse_bytes("128M"), 128u << 20);
  EXPECT_EQ(parse_bytes("1GiB"), 1u << 30);
  EXPECT_EQ(human_bytes(3u << 29), "1.5 GiB");
  EXPECT_THROW(parse_bytes("99999999999T"), Error);
  EXPECT_THROW(parse_bytes("12x"), Error);
}

TEST(Fd, a_symlink_is_not_followed_beneath_a_directory) {
  char dir[] = "/tmp/godwit-fd-XXXXXX";
  ASSERT_NE(::mkdtemp(dir), nullptr);
  const std::string link = std::string(dir) + "/out";
  ASSERT_EQ(::symlink("/etc/passwd", link.c_str()), 0);
  UniqueFd d = open_file(dir, O_RDONLY | O_DIRECTORY);
  EXPECT_THROW(open_beneath(d.get(), "out", O_RDONLY), Error);
  EXPECT_THROW(open_beneath(d.get(), "../passwd", O_RDONLY), Error);
  ::unlink(link.c_str());
  ::rmdir(dir);
}

// Faults look up its name once in the life of a process.
const std::string& fault_file() {
  static const std::string path = [] {
    char name[] = "/tmp/godwit-fault-XXXXXX";
    const UniqueFd file(check(::mkstemp(name), "make {}", name));
    ::setenv("GODWIT_FAULT_FILE", name, 1);
    return std::string(name);
  }();
  return path;
}

TEST(Fault, armed_in_the_file_happens_once_and_leaves_the_others) {
  const std::string& path = fault_file();
  write_file(path, "test.point=fail,engine.dump.frozen=kill");
  EXPECT_THROW(fault::point("test.point"), Error);
  EXPECT_EQ(read_file(path), "engine.dump.frozen=kill");
  fault::point("test.point");
  write_file(path, "no.such.point=kill");
  EXPECT_THROW(fault::point("test.point"), Error);
  write_file(path, "test.point=fail");
  EXPECT_THROW(fault::point("test.point"), Error);
  EXPECT_NE(::access(path.c_str(), F_OK), 0) << "an empty file is removed";
}

TEST(Fault, a_stop_ends_when_somebody_else_continues_the_process) {
  write_file(fault_file(), "test.point=stop");
  const pid_t child = check(::fork(), "fork");
  if (child == 0) {
    fault::point("test.point");
    ::_exit(7);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  EXPECT_TRUE(WIFSTOPPED(status));
  ::kill(child, SIGCONT);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

}  // namespace
}  // namespace godwit
