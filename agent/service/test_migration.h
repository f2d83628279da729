// For tests: a workload on node a, and the coordinator's part of moving it to b, or another one, step by step.
#pragma once

#include "agent/service/test_pair.h"

#include <gmock/gmock.h>

#include <csignal>

namespace godwit::service {

class MigrationTest : public testing::Test {
 protected:
  void SetUp() override { ::setenv("ASAN_OPTIONS", "detect_leaks=0", 1); }

  pid_t run_workload() { return run_workload(a); }
  pid_t run_workload(TestNode& node, std::initializer_list<const char*> words = {"sleep", "600"}) {
    api::Envelope request;
    api::RunWorkload& run = *request.mutable_run_workload();
    run.set_name("job");
    for (const char* word : words) run.add_argv(word);
    return pair.ask(node, std::move(request)).workload().pid();
  }
  void identify(std::string migration, std::uint64_t epoch = 1) {
    id.set_migration(std::move(migration));
    id.set_epoch(epoch);
  }
  template <class Set>
  api::Envelope ask(TestNode& node, Set set) {
    api::Envelope request;
    set(request);
    return pair.ask(node, std::move(request));
  }

  api::Surveyed survey() {
    return ask(a,
               [&](api::Envelope& e) {
                 *e.mutable_survey()->mutable_id() = id;
                 e.mutable_survey()->mutable_options()->set_force(forced);
                 e.mutable_survey()->set_workload("job");
               })
        .surveyed();
  }
  api::Prepared prepare(
      const api::Surveyed& surveyed, const std::function<void(api::Prepare&)>& change = [](api::Prepare&) {}) {
    return ask(*to,
               [&](api::Envelope& e) {
                 api::Prepare& p = *e.mutable_prepare();
                 *p.mutable_id() = id;
                 p.set_source_node("a");
                 p.set_survey(surveyed.engine());
                 *p.mutable_workload() = surveyed.info();
                 p.set_seed(42);
                 change(p);
               })
        .prepared();
  }
  void connect(const api::Prepared& prepared) {
    ask(a, [&](api::Envelope& e) {
      api::Connect& c = *e.mutable_connect();
      *c.mutable_id() = id;
      c.set_destination_node(to->options.node);
      c.set_peer_address(prepared.peer_address());
      c.set_pages_address(prepared.pages_address());
      c.set_token(prepared.token());
      c.set_seed(42);
    });
  }
  void connect_all() { connect(prepare(survey())); }
  api::RoundDone round(std::uint32_t number) {
    return ask(a,
               [&](api::Envelope& e) {
                 *e.mutable_round()->mutable_id() = id;
                 e.mutable_round()->set_number(number);
               })
        .round_done();
  }
  api::Frozen freeze(std::uint32_t number = 1, std::uint64_t most_bytes = 0, std::uint64_t limit_ms = 0) {
    return ask(a,
               [&](api::Envelope& e) {
                 *e.mutable_freeze()->mutable_id() = id;
                 e.mutable_freeze()->set_number(number);
                 e.mutable_freeze()->set_most_bytes(most_bytes);
                 e.mutable_freeze()->set_limit_ms(limit_ms);
               })
        .frozen();
  }
  api::Finished finish(std::uint64_t sequence) {
    return ask(*to,
               [&](api::Envelope& e) {
                 *e.mutable_finish()->mutable_id() = id;
                 e.mutable_finish()->set_sequence(sequence);
               })
        .finished();
  }
  std::string arm(const api::Finished& finished) {
    return ask(a,
               [&](api::Envelope& e) {
                 *e.mutable_arm()->mutable_id() = id;
                 e.mutable_arm()->set_destination_node(to->options.node);
                 e.mutable_arm()->set_destination_boot(finished.boot_id());
               })
        .armed()
        .commit_token();
  }
  api::Resumed commit(const std::string& token) {
    return ask(*to,
               [&](api::Envelope& e) {
                 *e.mutable_commit()->mutable_id() = id;
                 e.mutable_commit()->set_commit_token(token);
               })
        .resumed();
  }
  api::SourceState kill_source() {
    return ask(a, [&](api::Envelope& e) { *e.mutable_kill_source()->mutable_id() = id; }).source_state();
  }
  api::SourceState abort() {
    return ask(a, [&](api::Envelope& e) { *e.mutable_abort()->mutable_id() = id; }).source_state();
  }
  api::DestinationState discard() {
    return ask(*to, [&](api::Envelope& e) { *e.mutable_discard()->mutable_id() = id; }).destination_state();
  }
  // By somebody else.
  void kill_frozen(pid_t root) {
    ::kill(root, SIGKILL);
    EXPECT_TRUE(ends(root));
  }
  api::Finished prepare_all() {
    connect_all();
    round(0);
    return finish(freeze().round().last_sequence());
  }
  std::string arm_all() { return arm(prepare_all()); }

  SourcePhase source() {
    return static_cast<SourcePhase>(a.agent->migrations().source_state(id).source_state().phase());
  }
  DestinationPhase destination() {
    return static_cast<DestinationPhase>(to->agent->migrations().destination_state(id).destination_state().phase());
  }
  // Killed before, it may have to be reaped still.
  bool ends(pid_t root) {
    return pair.turn_until([&] { return ::kill(root, 0) != 0; });
  }
  bool becomes(SourcePhase phase) {
    return pair.turn_until([&] { return source() == phase; });
  }
  bool becomes(DestinationPhase phase) {
    return pair.turn_until([&] { return destination() == phase; });
  }

  static std::string state_at(TestNode& node) {
    return node.workloads().find("job") ? node.workloads().info("job").state() : "none";
  }
  template <class F>
  static std::string error_of(F&& call) {
    try {
      call();
    } catch (const Error& e) {
      return std::string(name(e.errc())) + ": " + e.message();
    }
    return "it succeeded";
  }
  void expect_running_at_the_source_only(pid_t root) {
    EXPECT_TRUE(becomes(SourcePhase::thawed));
    EXPECT_TRUE(pair.turn_until([&] { return state_at(b) == "none"; })) << state_at(b);
    EXPECT_EQ(state_at(a), "running");
    EXPECT_EQ(a.workloads().info("job").pid(), root);
    EXPECT_EQ(::kill(root, 0), 0);
    expect_nothing_left_but("run");
  }
  // No engine job, no copy's cgroup but those that end so.
  void expect_nothing_left_but(const std::string& kept) {
    const auto leftovers = [&] {
      std::string names;
      for (TestNode* node : pair.nodes()) {
        for (const std::string& at : {node->options.cgroup, node->options.cgroup + "/jobs"}) {
          for (const auto& entry : std::filesystem::directory_iterator(at)) {
            const std::string name = entry.path().filename();
            if (!entry.is_directory() || name == "jobs" || name == "inits" || name == "pageserver") continue;
            if (!name.ends_with(kept)) names += node->options.node + ":" + name + " ";
          }
        }
      }
      return names;
    };
    EXPECT_TRUE(pair.turn_until([&] { return leftovers().empty(); })) << leftovers();
  }

  TestPair pair;
  TestNode &a = pair.a, &b = pair.b;
  TestNode* to = &b;  // where `id` goes
  api::MigrationId id;
  bool forced = false;
};

}  // namespace godwit::service
