#include "common/commandline/actions.h"

#include "common/base/fd.h"

#include <gtest/gtest.h>

#include <filesystem>

#include <sys/stat.h>

namespace godwit {
namespace {

class ActionScripts : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "actions-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string script(const std::string& name, const std::string& end) {
    const std::string path = directory_ / name;
    write_file(path,
               fmt::format("#!/bin/sh\necho {} $CRTOOLS_SCRIPT_ACTION $CRTOOLS_IMAGE_DIR $CRTOOLS_INIT_PID >> {}\n{}\n",
                           name, (directory_ / "said").string(), end));
    ::chmod(path.c_str(), 0755);
    return path;
  }
  std::string said() { return read_file(directory_ / "said"); }

  std::filesystem::path directory_;
};

TEST_F(ActionScripts, run_from_the_last_one_to_the_first) {
  run_scripts({script("one", ""), script("two", ""), script("three", "")}, "/images")("post-dump", 7);
  EXPECT_EQ(said(), "three post-dump /images 7\ntwo post-dump /images 7\none post-dump /images 7\n");
}

TEST_F(ActionScripts, run_all_when_some_fail_and_every_failure_counts) {
  const RunAction act = run_scripts(
      {script("one", "exit 1"), script("two", "exit 4"), script("three", "kill -KILL $$"), script("four", "")}, "");
  try {
    act("pre-dump", 0);
    FAIL();
  } catch (const ScriptFailed& e) {
    EXPECT_EQ(e.status(), 1 | 4 | (128 + 9));
    for (const char* words : {"one exited with 1 at pre-dump", "two exited with 4", "three was ended by signal 9"})
      EXPECT_NE(e.message().find(words), std::string::npos) << e.message();
  }
  EXPECT_EQ(said(), "four pre-dump\nthree pre-dump\ntwo pre-dump\none pre-dump\n");
}

}  // namespace
}  // namespace godwit
