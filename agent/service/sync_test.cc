// A record that does not reach the disk: no answer, no action, and yet exactly one copy in the end, without a
// coordinator.
#include "agent/service/test_fault.h"
#include "agent/service/test_migration.h"

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

struct Case {
  const char* record;
  bool commits;  // else it is aborted when everything is prepared
};

class FailingSync : public MigrationTest, public testing::WithParamInterface<Case> {
 protected:
  bool settled() {
    const Record* s = a.records().find(key_of(id, Side::source));
    const Record* d = b.records().find(key_of(id, Side::destination));
    return (!s || s->is_final()) && (!d || d->is_final());
  }
};

TEST_P(FailingSync, ends_with_one_running_copy) {
  const pid_t root = run_workload();
  identify("sync");
  const ArmedFault fault(fmt::format("agent.record.{}=fail", GetParam().record));
  std::string said = error_of([&] {
    if (GetParam().commits) {
      commit(arm_all());
    } else {
      prepare_all();
      abort();
    }
  });
  // No word any more from the coordinator: also not that it was heard.
  a.agent->context().options.limits.undriven = 100ms;
  EXPECT_TRUE(pair.turn_until([&] { return settled(); }, 10s))
      << name(source()) << ", " << name(destination()) << ", " << said;
  EXPECT_TRUE(fault.has_struck()) << "the record was not written";
  EXPECT_TRUE(pair.turn_until([&] { return (state_at(a) == "running") != (state_at(b) == "running"); }, 5s))
      << state_at(a) << ", " << state_at(b);
  if (state_at(a) == "running") {
    EXPECT_TRUE(pair.turn_until([&] { return state_at(b) == "none"; }, 5s)) << state_at(b);
    EXPECT_EQ(::kill(root, 0), 0);
  } else {
    EXPECT_EQ(destination(), DestinationPhase::resumed);
    EXPECT_NE(::kill(root, 0), 0);
    EXPECT_TRUE(pair.turn_until([&] { return a.records().find(key_of(id, Side::source))->settled; }, 5s));
    EXPECT_TRUE(pair.turn_until([&] { return state_at(a) == "none"; }, 5s)) << state_at(a);
  }
}

INSTANTIATE_TEST_SUITE_P(Records, FailingSync,
                         testing::Values(Case{"source.frozen", true}, Case{"source.armed", true},
                                         Case{"source.killing", true}, Case{"source.killed", true},
                                         Case{"source.aborted", false}, Case{"source.thawed", false},
                                         Case{"destination.building", true}, Case{"destination.prepared", true},
                                         Case{"destination.committed", true}, Case{"destination.resumed", true},
                                         Case{"destination.refused", false}),
                         [](const auto& info) {
                           std::string name = info.param.record;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace godwit::service
