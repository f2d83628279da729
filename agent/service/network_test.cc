// What a restored copy sends does not leave before `resumed` is recorded, and does from then on.
#include "agent/service/test_fault.h"
#include "agent/service/test_migration.h"
#include "agent/workload/closed_network.h"

#include <atomic>
#include <thread>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

class NetworkTest : public MigrationTest {
 protected:
  bool closed() {
    return workload::network_closed(*living_copy(b.agent->context(), *b.records().find(key_of(id, Side::destination))));
  }
  bool opens() {
    return pair.turn_until([&] { return !closed(); }, 5s);
  }
};

TEST_F(NetworkTest, is_closed_from_the_beginning_of_the_copy_to_the_end_of_the_commit) {
  run_workload();
  identify("network");
  const std::string token = arm_all();
  EXPECT_TRUE(closed());
  commit(token);
  EXPECT_EQ(destination(), DestinationPhase::resumed);
  EXPECT_FALSE(closed());
}

TEST_F(NetworkTest, is_closed_while_the_copy_runs_and_that_is_not_recorded_yet) {
  run_workload();
  identify("network");
  const std::string token = arm_all();
  const workload::Cgroup copy = *living_copy(b.agent->context(), *b.records().find(key_of(id, Side::destination)));
  const ArmedFault fault("agent.record.destination.resumed=pause:400");
  std::atomic<bool> over = false, ran_unheard = false;
  std::jthread observer([&] {
    for (; !over; std::this_thread::sleep_for(5ms))
      if (!copy.told_to_freeze() && workload::network_closed(copy)) ran_unheard = true;
  });
  commit(token);
  over = true;
  EXPECT_TRUE(fault.has_struck());
  EXPECT_TRUE(ran_unheard);
  EXPECT_FALSE(closed());
}

TEST_F(NetworkTest, is_opened_by_the_next_life_of_an_agent_that_died_between_the_two) {
  run_workload();
  identify("network");
  const std::string token = arm_all();
  {
    const ArmedFault fault("agent.destination.resumed=fail");
    EXPECT_NE(error_of([&] { commit(token); }), "");
    EXPECT_TRUE(fault.has_struck());
  }
  EXPECT_EQ(destination(), DestinationPhase::resumed);
  workload::close_network(*living_copy(b.agent->context(), *b.records().find(key_of(id, Side::destination))));
  pair.restart(b);
  EXPECT_TRUE(opens());
}

TEST_F(NetworkTest, of_the_source_that_goes_on_was_never_closed) {
  run_workload();
  identify("network");
  prepare_all();
  EXPECT_FALSE(workload::network_closed(*living_copy(a.agent->context(), *a.records().find(key_of(id, Side::source)))));
}

}  // namespace
}  // namespace godwit::service
