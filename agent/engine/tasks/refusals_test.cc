#include "agent/engine/tasks/ipc_objects.h"
#include "agent/engine/tasks/refusals.h"

#include <gtest/gtest.h>
#include <sched.h>

namespace godwit::engine::tasks {
namespace {

TEST(Refusals, a_thread_without_oddities_is_carried) { EXPECT_TRUE(refusals_of_thread("thread 1", {}, {}).empty()); }

// This takes CAP_SYS_RESOURCE to set, and masking takes a CPU that has it.
TEST(Refusals, io_flushers_and_masked_addresses_are_named) {
  proc::Stat stat;
  stat.flags = 0x00080000 | 0x00100000;
  proc::Status status;
  status.untag_mask = 0x81ffffffffffffff;
  const auto found = refusals_of_thread("thread 1", stat, status);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_NE(found[0].reason.find("PR_SET_IO_FLUSHER"), std::string::npos);
  EXPECT_NE(found[1].reason.find("0x81ffffffffffffff"), std::string::npos);
  // A moment in which the kernel allocates without I/O.
  stat.flags = 0x00080000;
  EXPECT_TRUE(refusals_of_thread("thread 1", stat, {}).empty());
}

TEST(Refusals, deadlines_workers_and_unknown_modes_are_named) {
  const auto reason = [](const proc::Stat& stat, const proc::Status& status) {
    const auto found = refusals_of_thread("thread 1", stat, status);
    return found.size() == 1 ? found.front().reason : std::to_string(found.size());
  };
  proc::Stat stat;
  stat.policy = SCHED_DEADLINE;
  EXPECT_EQ(reason(stat, {}), "deadline scheduling is not carried");
  stat = {};
  stat.flags = 0x10;  // PF_IO_WORKER
  EXPECT_EQ(reason(stat, {}), "it works for an io_uring instance, which is not carried");
  proc::Status status;
  status.seccomp = 3;
  EXPECT_EQ(reason({}, status), "seccomp mode 3 is not carried");
}

TEST(Refusals, a_call_that_waits_for_system_v_objects_is_known) {
  EXPECT_EQ(awaited_ipc_object("65 0x1a 0x7ffd0 0x1 0x0 0x0 0x0 0x7ffd0 0x7f31"), "sysv semaphores 26");
  EXPECT_EQ(awaited_ipc_object("70 0x3 0x7ffd0 0x1 0x0 0x0 0x0 0x7ffd0 0x7f31"), "sysv message queue 3");
  EXPECT_EQ(awaited_ipc_object("0 0x3 0x7ffd0 0x1 0x0 0x0 0x0 0x7ffd0 0x7f31"), std::nullopt);
  EXPECT_EQ(awaited_ipc_object("running\n"), std::nullopt);
}

TEST(Refusals, all_are_in_the_error) {
  EXPECT_NO_THROW(throw_refusals({}));
  try {
    throw_refusals({{"a", "b", "try c"}, {"d", "e", ""}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::refused);
    EXPECT_EQ(e.message(), "a: b; d: e");
    EXPECT_EQ(e.hint(), "try c");
  }
}

}  // namespace
}  // namespace godwit::engine::tasks
