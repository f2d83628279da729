#include "agent/engine/resources/path_file.h"

#include "common/base/check.h"

#include <filesystem>
#include <optional>

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

namespace godwit::engine::resources {
namespace {

class PathFile : public ::testing::Test {
 protected:
  PathFile() {
    char name[] = "/tmp/godwit-path-file-XXXXXX";
    directory_ = ::mkdtemp(name);
    file_ = open_file(path("a"), O_RDWR | O_CREAT, 0600);
    view_ = view_own_fd(file_.get());
  }
  ~PathFile() override { std::filesystem::remove_all(directory_); }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  std::string refusal() const {
    const auto refused = path_file::refuse_lost_path(view_, {.options = options_, .frozen = frozen_});
    return refused ? refused->reason : "";
  }

  const Options options_;
  std::string directory_;
  UniqueFd file_;
  FdView view_;
  bool frozen_ = false;
};

TEST_F(PathFile, without_a_name_is_refused) {
  EXPECT_EQ(refusal(), "");
  std::filesystem::remove(path("a"));
  view_ = view_own_fd(file_.get());
  for (const bool frozen : {false, true}) {
    frozen_ = frozen;
    EXPECT_THAT(refusal(), ::testing::HasSubstr("no name leads"));
  }
}

TEST_F(PathFile, that_is_renamed_while_it_is_looked_at_is_not_refused) {
  std::filesystem::rename(path("a"), path("b"));
  EXPECT_EQ(refusal(), "");
  const UniqueFd other = open_file(path("a"), O_RDWR | O_CREAT, 0600);
  EXPECT_EQ(refusal(), "");
}

TEST_F(PathFile, that_somebody_renames_in_a_freeze_makes_it_try_again) {
  frozen_ = true;
  std::filesystem::rename(path("a"), path("b"));
  try {
    const std::string refused = refusal();
    FAIL() << "refused: " << refused;
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::busy);
    EXPECT_THAT(e.message(), ::testing::HasSubstr("has just been renamed"));
  }
}

TEST_F(PathFile, of_a_process_that_has_ended_is_not_looked_for) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  siginfo_t ended{};
  check(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), "wait for a child");
  view_.pid = child;
  const auto errc_of_look = [&]() -> std::optional<Errc> {
    try {
      (void)refusal();
      return std::nullopt;
    } catch (const Error& e) {
      return e.errc();
    }
  };
  EXPECT_EQ(errc_of_look(), Errc::target_gone);
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(errc_of_look(), Errc::target_gone);
}

}  // namespace
}  // namespace godwit::engine::resources
