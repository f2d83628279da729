#include "agent/engine/restore/shell_job.h"

#include "common/base/error.h"
#include "common/image/full_message.h"
#include "common/image/pstree.pb.h"

#include <gtest/gtest.h>

#include <sys/sysmacros.h>

namespace godwit::engine {
namespace {

using image::Kind;

constexpr std::uint32_t none = ~0u, root = 100, shell = 90;

void add_process(image::ImageSet& set, std::uint32_t pid, std::uint32_t sid, std::uint32_t terminal) {
  image::PstreeEntry entry;
  entry.set_pid(pid);
  entry.set_ppid(pid == root ? 0 : root);
  entry.set_pgid(pid);
  entry.set_sid(sid);
  if (terminal != none) entry.set_terminal(terminal);
  entry.add_threads(pid);
  set.append(Kind::pstree, 0, entry);
}

void add_terminal(image::ImageSet& set, std::uint32_t index, bool master, std::uint32_t sid = 0) {
  auto info = image::full<image::TtyInfoEntry>();
  info.set_id(index * 2 + (master ? 1 : 0));
  info.set_type(image::TTY_PTY);
  info.set_sid(sid);
  info.set_rdev(static_cast<std::uint32_t>(master ? makedev(5, 2) : makedev(136, index)));
  info.mutable_pty()->set_index(index);
  set.append(Kind::tty_info, 0, info);
}

Errc refusal(const image::ImageSet& set) {
  try {
    shell_job_of(set);
  } catch (const Error& e) {
    return e.errc();
  }
  return Errc::internal;
}

TEST(ShellJob, is_in_the_session_that_a_terminal_from_outside_controls) {
  image::ImageSet set;
  add_process(set, root, shell, 3);
  add_terminal(set, 3, false, shell);
  const ShellJob job = shell_job_of(set);
  EXPECT_EQ(job.terminal, 3);
  EXPECT_TRUE(job.controlled && job.in_session);
  EXPECT_EQ(describe_terminal(job, set)->id(), 6u);
}

TEST(ShellJob, may_lead_the_session_or_have_nothing_open_of_the_terminal) {
  image::ImageSet set;
  add_process(set, root, root, 3);
  const ShellJob job = shell_job_of(set);
  EXPECT_EQ(job.terminal, 3);
  EXPECT_TRUE(job.controlled && job.in_session);
  EXPECT_FALSE(describe_terminal(job, set));
}

TEST(ShellJob, of_criu_is_told_by_the_terminals_session) {
  image::ImageSet set;
  add_process(set, root, shell, none);
  add_terminal(set, 3, false, shell);
  EXPECT_TRUE(shell_job_of(set).controlled);
}

TEST(ShellJob, without_a_terminal_is_in_the_shells_session) {
  image::ImageSet set;
  add_process(set, root, shell, none);
  const ShellJob job = shell_job_of(set);
  EXPECT_EQ(job.terminal, -1);
  EXPECT_TRUE(job.in_session && !job.controlled);
}

TEST(ShellJob, that_only_writes_to_a_terminal_keeps_its_own_session) {
  image::ImageSet set;
  add_process(set, root, root, none);
  add_terminal(set, 3, false);
  const ShellJob job = shell_job_of(set);
  EXPECT_EQ(job.terminal, 3);
  EXPECT_FALSE(job.in_session || job.controlled);
}

TEST(ShellJob, has_its_own_terminals_besides) {
  image::ImageSet set;
  add_process(set, root, shell, 3);
  add_process(set, root + 1, root + 1, 5);
  add_terminal(set, 3, false, shell);
  add_terminal(set, 5, false, root + 1);
  add_terminal(set, 5, true, root + 1);
  EXPECT_EQ(shell_job_of(set).terminal, 3);
}

TEST(ShellJob, is_none_with_both_ends_in_the_images) {
  image::ImageSet set;
  add_process(set, root, root, 3);
  add_terminal(set, 3, false, root);
  add_terminal(set, 3, true, root);
  const ShellJob job = shell_job_of(set);
  EXPECT_EQ(job.terminal, -1);
  EXPECT_FALSE(job.in_session);
}

TEST(ShellJob, has_one_terminal_from_outside) {
  image::ImageSet set;
  add_process(set, root, shell, 3);
  add_terminal(set, 4, false);
  EXPECT_EQ(refusal(set), Errc::unsupported);
}

TEST(ShellJob, has_no_other_session_on_its_terminal) {
  image::ImageSet set;
  add_process(set, root, root, none);
  add_process(set, root + 1, root + 1, 3);
  EXPECT_EQ(refusal(set), Errc::unsupported);
}

TEST(ShellJob, has_no_terminal_beyond_the_last) {
  image::ImageSet set;
  add_process(set, root, root, none);
  add_terminal(set, 1u << 20, false);
  EXPECT_EQ(refusal(set), Errc::image_corrupt);
}

}  // namespace
}  // namespace godwit::engine
