// The time of day jumps by an hour, to and fro, in every phase of a migration: nobody gives up for that, and nobody who
// would have to waits for ever.
#include "agent/service/test_migration.h"
#include "common/base/wall_clock.h"

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

const std::string clock_file = fmt::format("/tmp/godwit-agent-clock-test-{}", ::getpid());
const int named_first = ::setenv("GODWIT_CLOCK_FILE", clock_file.c_str(), 1);

class ClockJumps : public MigrationTest, public testing::WithParamInterface<int> {
 protected:
  ~ClockJumps() override { ::unlink(clock_file.c_str()); }

  // Both agents are in this process, so both clocks; long enough for whoever looks now and then to look.
  void jump() {
    shift_s_ = shift_s_ > 0 ? -3600 : 3600;
    write_file(clock_file, std::to_string(GetParam() * shift_s_));
    pair.turn_until([] { return false; }, 300ms);
  }
  std::string arm_with_jumps() {
    jump();
    const auto surveyed = survey();
    jump();
    const auto prepared = prepare(surveyed);
    jump();
    connect(prepared);
    jump();
    round(0);
    jump();
    const auto frozen = freeze();
    jump();
    const auto finished = finish(frozen.round().last_sequence());
    jump();
    const std::string token = arm(finished);
    jump();
    return token;
  }

 private:
  int shift_s_ = 0;
};

TEST_P(ClockJumps, leave_a_migration_as_it_is) {
  const pid_t root = run_workload();
  identify("moves");
  commit(arm_with_jumps());
  jump();
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
  jump();
  EXPECT_TRUE(ends(root));
  EXPECT_EQ(state_at(b), "running");
  EXPECT_TRUE(pair.turn_until([&] { return a.records().find(key_of(id, Side::source))->settled; }));
}

TEST_P(ClockJumps, keep_no_armed_source_from_asking_in_its_time) {
  a.refuse_after(600ms);
  const pid_t root = run_workload();
  identify("refused");
  arm_with_jumps();
  const auto begin = Clock::now();
  expect_running_at_the_source_only(root);
  EXPECT_LT(Clock::now() - begin, 15s);
  EXPECT_EQ(destination(), DestinationPhase::refused);
}

INSTANTIATE_TEST_SUITE_P(First, ClockJumps, testing::Values(1, -1),
                         [](const auto& info) { return info.param > 0 ? "forward" : "back"; });

}  // namespace
}  // namespace godwit::service
