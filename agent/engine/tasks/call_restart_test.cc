#include "agent/engine/tasks/call_restart.h"

#include <cerrno>

#include <gtest/gtest.h>

namespace godwit::engine::tasks::call_restart {
namespace {

constexpr unsigned long long call_number = 7, after_call = 0x1002, call = 0x1000;

Regs interrupted_by(long result) {
  Regs r{};
  r.orig_rax = call_number;
  r.rax = static_cast<unsigned long long>(-result);
  r.rip = after_call;
  return r;
}

TEST(CallRestart, stands_in_front_of_a_call_that_begins_again) {
  for (const long result : {512, 513, 514}) {
    image::ThreadCoreEntry entry;
    const Regs written = dump(interrupted_by(result), entry);
    EXPECT_EQ(written.rip, call);
    EXPECT_EQ(written.rax, call_number);
    const Regs read = restore(written, entry);
    EXPECT_EQ(read.rip, after_call);
    EXPECT_EQ(static_cast<long>(read.rax), -result);
    EXPECT_EQ(read.orig_rax, call_number);
  }
}

TEST(CallRestart, ends_a_call_that_needs_a_restart_block_with_eintr) {
  image::ThreadCoreEntry entry;
  const Regs written = dump(interrupted_by(516), entry);
  EXPECT_EQ(written.rip, after_call);
  EXPECT_EQ(static_cast<long>(written.rax), -EINTR);
  EXPECT_EQ(static_cast<long>(restore(written, entry).rax), -516);
}

TEST(CallRestart, goes_on_as_criu_would_without_the_field) {
  image::ThreadCoreEntry entry;
  const Regs written = dump(interrupted_by(512), entry);
  entry.clear_restart();
  EXPECT_EQ(restore(written, entry).rip, call);
}

TEST(CallRestart, leaves_every_other_thread_as_it_is) {
  for (const long result : {0L, 4L, 11L, 515L}) {
    image::ThreadCoreEntry entry;
    EXPECT_EQ(dump(interrupted_by(result), entry).rip, after_call);
    EXPECT_FALSE(entry.has_restart());
  }
  Regs outside = interrupted_by(512);  // no call: the register holds what the program put there
  outside.orig_rax = static_cast<unsigned long long>(-1);
  image::ThreadCoreEntry entry;
  EXPECT_EQ(dump(outside, entry).rip, after_call);
  EXPECT_FALSE(entry.has_restart());
}

}  // namespace
}  // namespace godwit::engine::tasks::call_restart
