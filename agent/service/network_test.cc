// What a restored copy sends does not leave before `resumed` is recorded, and does from then on.
#include "agent/service/test_fault.h"
#include "agent/service/test_migration.h"
#include "agent/workload/closed_network.h"

#include <linux/bpf.h>

#include <array>
#include <atomic>
#include <thread>

#include <bpf/bpf.h>

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

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

// Of somebody who suffers no other one below: then ours cannot be added.
class JealousProgram {
 public:
  explicit JealousProgram(const std::string& cgroup) : at_(*workload::Cgroup::open(cgroup)) {
    const std::array<bpf_insn, 2> pass{
        {{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1}, {.code = BPF_JMP | BPF_EXIT}}};
    const UniqueFd loaded(
        check(::bpf_prog_load(BPF_PROG_TYPE_CGROUP_SKB, "jealous", "Apache-2.0", pass.data(), pass.size(), nullptr),
              "load a program"));
    check(::bpf_prog_attach(loaded.get(), at_.dir(), BPF_CGROUP_INET_EGRESS, 0), "attach it");
  }
  ~JealousProgram() { ::bpf_prog_detach(at_.dir(), BPF_CGROUP_INET_EGRESS); }
  JealousProgram(const JealousProgram&) = delete;
  JealousProgram& operator=(const JealousProgram&) = delete;

 private:
  workload::Cgroup at_;
};

TEST_F(NetworkTest, that_cannot_be_closed_is_told_of_before_anything_is_moved) {
  run_workload();
  identify("heard");
  const JealousProgram jealous(b.options.cgroup);
  const auto told = HasSubstr("node 'b' cannot hold back what the copy sends before it counts: another program at");
  const api::Surveyed surveyed = survey();
  const api::Prepared prepared = prepare(surveyed);
  EXPECT_THAT(prepared.notices(), ElementsAre(told)) << "as it is found when the copy is made";
  connect(prepared);
  round(0);
  commit(arm(finish(freeze().round().last_sequence())));
  EXPECT_EQ(destination(), DestinationPhase::resumed);
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);

  pair.restart(b);
  identify("preview", 2);
  const api::Envelope checked = ask(b, [&](api::Envelope& e) {
    api::Prepare& p = *e.mutable_check()->mutable_prepare();
    *p.mutable_id() = id;
    p.set_survey(surveyed.engine());
    *p.mutable_workload() = surveyed.info();
  });
  EXPECT_THAT(checked.checked().notices(), ElementsAre(told)) << "as it was found at the start";
}

TEST_F(NetworkTest, that_can_be_closed_is_not_worth_a_word) {
  run_workload();
  identify("unheard");
  EXPECT_THAT(prepare(survey()).notices(), ElementsAre());
  EXPECT_EQ(b.agent->context().network_stays_open, "");
  EXPECT_FALSE(workload::Cgroup::open(b.options.cgroup + "/network")) << "what it was tried with";
}

TEST_F(NetworkTest, of_the_source_that_goes_on_was_never_closed) {
  run_workload();
  identify("network");
  prepare_all();
  EXPECT_FALSE(workload::network_closed(*living_copy(a.agent->context(), *a.records().find(key_of(id, Side::source)))));
}

}  // namespace
}  // namespace godwit::service
