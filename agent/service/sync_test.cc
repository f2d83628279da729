// A record that does not reach the disk: no answer, no action, and yet exactly one copy in the end, without a
// coordinator.
#include "agent/service/test_fault.h"
#include "agent/service/test_migration.h"

namespace godwit::service {
namespace {

using namespace std::chrono_literals;

// What happens when everything is prepared.
enum class Then {
  commit = 1,
  abort,
  source_dies,   // its frozen copy is killed by somebody
  copy_crashes,  // the restored one, as it is thawed
};

struct Case {
  const char* record;
  Then then;
};

class FailingSync : public MigrationTest, public testing::WithParamInterface<Case> {
 protected:
  void go_on(pid_t root) {
    switch (GetParam().then) {
      case Then::commit:
      case Then::copy_crashes: commit(arm_all()); return;
      case Then::abort:
        prepare_all();
        abort();
        return;
      case Then::source_dies: {
        const auto finished = prepare_all();
        kill_frozen(root);
        arm(finished);
      }
    }
  }
  bool settled() {
    const Record* s = a.records().find(key_of(id, Side::source));
    const Record* d = b.records().find(key_of(id, Side::destination));
    return (!s || s->is_final()) && (!d || d->is_final());
  }
};

TEST_P(FailingSync, ends_with_one_running_copy) {
  const pid_t root = run_workload();
  const bool crash = GetParam().then == Then::copy_crashes;
  identify(crash ? "crash-thawed" : "sync");
  if (GetParam().record == std::string_view("source.armed")) a.refuse_after(600ms);  // nobody commits it
  const ArmedFault fault(
      fmt::format("agent.record.{}=fail{}", GetParam().record, crash ? ",agent.destination.thawed=stop" : ""));
  const StandsUntilEmpty dead(b.options.cgroup + "/" + to_string(key_of(id, Side::destination)));
  std::string said = error_of([&] { go_on(root); });
  // No word any more from the coordinator: also not that it was heard.
  a.agent->context().options.limits.undriven = 100ms;
  EXPECT_TRUE(pair.turn_until([&] { return settled(); }, 10s))
      << name(source()) << ", " << name(destination()) << ", " << said;
  EXPECT_TRUE(fault.has_struck()) << "the record was not written";
  EXPECT_TRUE(pair.turn_until([&] { return (state_at(a) == "running") != (state_at(b) == "running"); }, 5s))
      << state_at(a) << ", " << state_at(b);
  EXPECT_TRUE(b.agent->context().promised.empty());
  if (state_at(a) == "running") {
    EXPECT_TRUE(pair.turn_until([&] { return state_at(b) == "none"; }, 5s)) << state_at(b);
    EXPECT_EQ(::kill(root, 0), 0);
  } else {
    EXPECT_EQ(destination(), DestinationPhase::resumed);
    EXPECT_TRUE(ends(root));
    EXPECT_TRUE(pair.turn_until([&] { return a.records().find(key_of(id, Side::source))->settled; }, 5s));
    const std::string left = GetParam().then == Then::source_dies ? "exited" : "none";  // for `ps` to tell
    EXPECT_TRUE(pair.turn_until([&] { return state_at(a) == left; }, 5s)) << state_at(a);
  }
}

// The disk takes nothing for longer: what the failure is about can be looked up no more when it is to be dealt with.
TEST_F(MigrationTest, a_freeze_whose_record_fails_twice_is_undone_all_the_same) {
  const pid_t root = run_workload();
  identify("twice");
  connect_all();
  round(0);
  const ArmedFault fault("agent.records.sync=fail,agent.record.source.frozen=fail");
  EXPECT_THAT(error_of([&] { freeze(); }), testing::HasSubstr("recording twice.1.src failed"));
  EXPECT_TRUE(fault.has_struck());
  EXPECT_TRUE(pair.turn_until([&] { return source() == SourcePhase::thawed; }, 10s));
  expect_running_at_the_source_only(root);
}

INSTANTIATE_TEST_SUITE_P(
    Records, FailingSync,
    testing::Values(Case{"source.frozen", Then::commit}, Case{"source.armed", Then::commit},
                    Case{"source.killing", Then::commit}, Case{"source.killed", Then::commit},
                    Case{"source.aborted", Then::abort}, Case{"source.thawed", Then::abort},
                    Case{"destination.building", Then::commit}, Case{"destination.prepared", Then::commit},
                    Case{"destination.committed", Then::commit}, Case{"destination.resumed", Then::commit},
                    Case{"destination.refused", Then::abort}, Case{"source.lost", Then::source_dies},
                    Case{"destination.lost", Then::copy_crashes}),
    [](const auto& info) {
      std::string name = info.param.record;
      std::replace(name.begin(), name.end(), '.', '_');
      return name;
    });

}  // namespace
}  // namespace godwit::service
