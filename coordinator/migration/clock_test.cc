// The time of day jumps while migrations are under way: it names and dates them, and decides nothing.
#include "common/base/fd.h"
#include "common/base/wall_clock.h"
#include "coordinator/testing/cluster.h"
#include "coordinator/testing/in_doubt.h"

#include <gtest/gtest.h>

#include <algorithm>

#include <unistd.h>

namespace godwit::coordinator {
namespace {

using Env = api::Envelope;

const std::string clock_file = fmt::format("/tmp/godwit-clock-test-{}", ::getpid());
const int named_first = ::setenv("GODWIT_CLOCK_FILE", clock_file.c_str(), 1);

constexpr int hour_s = 3600;

class Jumps : public testing::Test {
 protected:
  ~Jumps() override { ::unlink(clock_file.c_str()); }

  static void put_clock(int seconds) { write_file(clock_file, std::to_string(seconds)); }
  // To and fro with every request of a migration to either node.
  static void jump_at_every_request(Cluster& c, int& jumps) {
    for (FakeAgent* agent : {&c.a, &c.b})
      agent->on_request = [&jumps](FakeAgent::Body body) {
        if (body != Env::kListWorkloads) put_clock(++jumps % 2 ? hour_s : -hour_s);
      };
  }
};

TEST_F(Jumps, are_what_the_test_says) {
  const std::int64_t before = unix_ms();
  put_clock(hour_s);
  EXPECT_GE(unix_ms(), before + hour_s * 1000);
  put_clock(-hour_s);
  EXPECT_LT(unix_ms(), before);
}

TEST_F(Jumps, in_every_phase_leave_a_migration_as_it_is) {
  Cluster c;
  int jumps = 0;
  jump_at_every_request(c, jumps);
  const Migration m = c.migrate();
  EXPECT_EQ(m.outcome, Outcome::done) << (m.reason ? m.reason->message : "");
  EXPECT_GT(jumps, 8);
  EXPECT_LT(m.total_s, 30);
  EXPECT_EQ(m.downtime_ns, 40'000'000);
}

TEST_F(Jumps, in_every_phase_leave_a_rollback_as_it_is) {
  for (const auto& [at_source, step] : std::vector<std::pair<bool, FakeAgent::Body>>{{true, Env::kSurvey},
                                                                                     {false, Env::kPrepare},
                                                                                     {true, Env::kConnect},
                                                                                     {true, Env::kRound},
                                                                                     {true, Env::kFreeze},
                                                                                     {false, Env::kFinish},
                                                                                     {true, Env::kArm},
                                                                                     {false, Env::kCommit}}) {
    Cluster c;
    int jumps = 0;
    jump_at_every_request(c, jumps);
    (at_source ? c.a : c.b).once[step] = Fault::hang_before;
    const auto begin = Clock::now();
    const Migration m = c.migrate();
    EXPECT_TRUE(terminal(m.phase)) << step << " " << name(m.phase);
    EXPECT_EQ(m.outcome == Outcome::done, c.b.runs("redis")) << step;
    EXPECT_NE(c.a.runs("redis"), c.b.runs("redis")) << step;
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(8)) << step << ": as long as its time-out, and no longer";
    EXPECT_LT(m.total_s, 30) << step;
  }
}

TEST_F(Jumps, of_a_coordinator_that_is_restarted_give_no_time_that_cannot_be) {
  for (const int jump : {hour_s, -hour_s}) {
    Cluster c;
    const std::string id = left_behind(c, Phase::committing);
    c.a.source = api::SOURCE_ARMED;
    c.b.destination = api::DESTINATION_PREPARED;
    put_clock(jump);
    c.daemon.driver.resume();
    const Migration m = c.finish(id);
    EXPECT_TRUE(terminal(m.phase));
    EXPECT_GE(m.total_s, 0);
  }
}

TEST_F(Jumps, back_leave_the_order_of_what_has_been_done) {
  Cluster c;
  const std::string first = c.migrate().id;
  put_clock(-hour_s);
  c.a.always[Env::kRound] = c.b.always[Env::kRound] = Fault::hang_before;
  MigrationSpec back;
  back.workload = "redis";
  back.destination = "a";
  const std::string second = c.daemon.driver.start(back);
  put_clock(-2 * hour_s);
  MigrationSpec other;
  other.pid = 4711;
  other.source = "a";
  other.destination = "b";
  const std::string third = c.daemon.driver.start(other);
  EXPECT_EQ(c.daemon.driver.under_way(), (std::vector{second, third})) << "oldest first";
  std::vector<std::string> history;
  for (const Migration& m : c.store.migrations(10)) history.push_back(m.id);
  EXPECT_EQ(history, (std::vector{third, second, first})) << "newest first";
  for (const std::string& id : {second, third}) c.daemon.driver.cancel(id, "ann");
  for (const std::string& id : {second, third}) c.finish(id);
}

}  // namespace
}  // namespace godwit::coordinator
