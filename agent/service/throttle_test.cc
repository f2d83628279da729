// A workload that spins is given less CPU time, and all of it again, however the migration goes on.
#include "agent/service/test_fault.h"
#include "agent/service/test_migration.h"
#include "common/proc/reader.h"

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

std::string cpu_group_of(pid_t pid) {
  for (const proc::CgroupLine& line : proc::Reader(pid).cgroup())
    if (line.controllers == "cpu" || line.controllers.starts_with("cpu,")) return line.path;
  return {};
}

class ThrottleTest : public MigrationTest {
 protected:
  pid_t spin() {
    root_ = run_workload(a, {"sh", "-c", "while :; do :; done"});
    home_ = cpu_group_of(root_);
    return root_;
  }
  double throttle(std::uint32_t percent) {
    return ask(a,
               [&](api::Envelope& e) {
                 *e.mutable_throttle()->mutable_id() = id;
                 e.mutable_throttle()->set_percent(percent);
               })
        .throttled()
        .cpus();
  }
  void begin(const std::string& migration) {
    spin();
    identify(migration);
    connect_all();
    round(0);
  }
  void throttle_hard(const std::string& migration) {
    begin(migration);
    EXPECT_GT(throttle(10), 0);
    EXPECT_TRUE(limited());
  }
  // By the note, which is there before any limit and goes after it, and by the group.
  bool limited() const {
    const bool noted = !std::filesystem::is_empty(a.options.state + "/limits");
    EXPECT_EQ(noted, ::kill(root_, 0) == 0 && cpu_group_of(root_) != home_) << "a limit without a note, or the reverse";
    return noted;
  }
  double use() {
    const auto copy = workload::Cgroup::open(a.agent->context().cgroup(a.workloads().find("job")->cgroup()));
    const std::uint64_t before = workload::cpu_time_us(*copy);
    const auto begin = Clock::now();
    pair.turn_until([] { return false; }, 400ms);
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    return static_cast<double>(workload::cpu_time_us(*copy) - before) / 1e6 / seconds;
  }

  pid_t root_ = 0;
  std::string home_;
};

TEST_F(ThrottleTest, takes_a_part_of_what_the_workload_used) {
  begin("steps");
  pair.turn_until([] { return false; }, 300ms);
  const double most = throttle(80);
  EXPECT_LE(most, 1);
  EXPECT_NEAR(throttle(40), most / 2, most / 100) << "of what it used before the first step";
  EXPECT_NEAR(throttle(20), most / 4, most / 100);
  EXPECT_LT(use(), most / 2);
  EXPECT_EQ(throttle(100), 0);
  EXPECT_FALSE(limited());
}

TEST_F(ThrottleTest, refuses_what_makes_no_sense) {
  spin();
  identify("nonsense");
  connect_all();
  EXPECT_THAT(error_of([&] { throttle(0); }), HasSubstr("invalid_argument"));
  EXPECT_THAT(error_of([&] { throttle(101); }), HasSubstr("invalid_argument"));
  EXPECT_THAT(error_of([&] { throttle(80); }), HasSubstr("no round"));
  round(0);
  freeze();
  EXPECT_THAT(error_of([&] { throttle(80); }), HasSubstr("frozen"));
  identify("unknown");
  EXPECT_THAT(error_of([&] { throttle(80); }), HasSubstr("not connected"));
}

TEST_F(ThrottleTest, is_lifted_for_the_stop_and_again_in_force_when_it_runs_on) {
  throttle_hard("over");
  EXPECT_TRUE(freeze(1, 4096).has_over_budget());
  EXPECT_TRUE(limited());
  EXPECT_LT(use(), 0.2);
  round(2);
  const auto frozen = freeze(3, 0);
  EXPECT_EQ(abort().phase(), api::SOURCE_THAWED);
  EXPECT_FALSE(limited());
}

TEST_F(ThrottleTest, leaves_nothing_behind_when_the_workload_has_moved) {
  throttle_hard("moved");
  commit(arm(finish(freeze().round().last_sequence())));
  EXPECT_EQ(kill_source().phase(), api::SOURCE_KILLED);
  EXPECT_TRUE(std::filesystem::is_empty(a.options.state + "/limits"));
  expect_nothing_left_but("moved.1.dst");
}

TEST_F(ThrottleTest, is_lifted_by_an_abort) {
  throttle_hard("aborted");
  abort();
  EXPECT_FALSE(limited());
  EXPECT_EQ(state_at(a), "running");
}

TEST_F(ThrottleTest, is_lifted_when_a_step_fails) {
  throttle_hard("fail-freeze");
  EXPECT_NE(error_of([&] { freeze(); }), "it succeeded");
  EXPECT_FALSE(limited());
  EXPECT_EQ(state_at(a), "running");
}

TEST_F(ThrottleTest, is_lifted_when_the_destination_gives_up) {
  throttle_hard("refused");
  discard();
  EXPECT_TRUE(pair.turn_until([&] { return !limited(); }));
}

TEST_F(ThrottleTest, is_lifted_when_nobody_drives_the_migration) {
  a.options.limits.undriven = 300ms;
  pair.restart(a);
  begin("undriven");
  a.agent->context().coordinator_seen = Clock::now();
  throttle(10);
  EXPECT_TRUE(pair.turn_until([&] { return !limited(); }, 5s));
  EXPECT_EQ(source(), SourcePhase::none) << "the migration may go on";
  round(1);
}

TEST_F(ThrottleTest, that_cannot_be_lifted_at_once_is_lifted_later) {
  a.options.limits.ask_interval = 2s;
  pair.restart(a);
  throttle_hard("stuck");
  const ArmedFault stuck("agent.limit.lift=fail");
  abort();
  EXPECT_TRUE(stuck.has_struck());
  EXPECT_TRUE(limited());
  EXPECT_EQ(state_at(a), "running");
  discard();
  identify("next", 2);
  connect_all();
  round(0);
  EXPECT_THAT(error_of([&] { throttle(50); }), HasSubstr("busy: an earlier limit"))
      << "it would be put back by the next";
  EXPECT_TRUE(pair.turn_until([&] { return !limited(); }, 5s));
  EXPECT_GT(throttle(50), 0);
  abort();
  EXPECT_FALSE(limited());
}

TEST_F(ThrottleTest, that_cannot_be_lifted_goes_with_its_workload) {
  throttle_hard("stuck");
  const ArmedFault stuck("agent.limit.lift=fail");
  abort();
  ::kill(root_, SIGKILL);
  EXPECT_TRUE(pair.turn_until([&] { return std::filesystem::is_empty(a.options.state + "/limits"); }, 5s));
}

TEST_F(ThrottleTest, that_an_agent_left_behind_is_lifted_by_its_next_life) {
  spin();
  const std::string copy = a.agent->context().cgroup(a.workloads().find("job")->cgroup());
  workload::CpuLimit lost(copy, "godwit.lost", a.options.state + "/limits/lost");
  lost.set(0.05);
  EXPECT_TRUE(limited());
  pair.restart(a);
  EXPECT_FALSE(limited());
}

class RateTest : public MigrationTest {
 protected:
  static constexpr std::uint64_t a_round = 20 * 64 * 1024;  // what the fake engine sends

  net::awaitable<void> ask_later(api::Envelope request, bool& done) {
    co_await answer_coordinator(a.agent->context(), a.agent->migrations(), std::move(request));
    done = true;
  }
  void set_rate(std::uint64_t bytes_per_second) { set_rate_of(id, bytes_per_second); }
  void set_rate_of(const api::MigrationId& which, std::uint64_t bytes_per_second) {
    ask(a, [&](api::Envelope& e) {
      *e.mutable_set_rate()->mutable_id() = which;
      e.mutable_set_rate()->set_rate_limit(bytes_per_second);
    });
  }
  void connect_workload(const std::string& name) {
    ask(a, [&](api::Envelope& e) {
      e.mutable_run_workload()->set_name(name);
      for (const char* word : {"sleep", "600"}) e.mutable_run_workload()->add_argv(word);
    });
    identify(name);
    connect(prepare(ask(a, [&](api::Envelope& e) {
                      *e.mutable_survey()->mutable_id() = id;
                      e.mutable_survey()->set_workload(name);
                    }).surveyed()));
  }
  static double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }
};

TEST_F(RateTest, changes_while_a_round_is_running) {
  run_workload();
  identify("rate");
  EXPECT_THAT(error_of([&] { set_rate(1); }), HasSubstr("busy"));
  connect_all();
  set_rate(a_round / 2);
  const auto begin = Clock::now();
  round(0);
  EXPECT_GT(seconds_since(begin), 1.5);
  set_rate(a_round / 600);
  bool done = false;
  api::Envelope request;
  *request.mutable_round()->mutable_id() = id;
  request.mutable_round()->set_number(1);
  net::spawn(a.io->get_executor(), "test.round", ask_later(std::move(request), done));
  EXPECT_FALSE(pair.turn_until([&] { return done; }, 500ms));
  set_rate(0);
  EXPECT_TRUE(pair.turn_until([&] { return done; }, 5s)) << "ten minutes, had nothing changed";
  commit(arm(finish(freeze(2).round().last_sequence())));
}

TEST_F(RateTest, a_node_has_one_for_all_its_migrations) {
  a.options.rate_limit = a_round / 2;
  pair.restart(a);
  run_workload();
  identify("node");
  connect_all();
  set_rate(0);
  const auto begin = Clock::now();
  round(0);
  EXPECT_GT(seconds_since(begin), 1.5);
}

TEST_F(RateTest, of_a_node_that_is_changed_is_shared_by_the_rounds_under_way) {
  a.options.rate_limit = a_round / 600;
  pair.restart(a);
  std::array<bool, 2> done{};
  const auto begin_round = [&](const std::string& workload, bool& is_done) {
    connect_workload(workload);
    api::Envelope request;
    *request.mutable_round()->mutable_id() = id;
    net::spawn(a.io->get_executor(), "test.round", ask_later(std::move(request), is_done));
  };
  begin_round("one", done[0]);
  begin_round("two", done[1]);
  EXPECT_FALSE(pair.turn_until([&] { return done[0] || done[1]; }, 500ms));
  set_rate_of({}, 2 * a_round);
  const auto begin = Clock::now();
  EXPECT_TRUE(pair.turn_until([&] { return done[0] || done[1]; }, 10s)) << "twenty minutes, had nothing changed";
  EXPECT_GT(seconds_since(begin), 0.6) << "a round each in a second";
  EXPECT_TRUE(pair.turn_until([&] { return done[0] && done[1]; }, 400ms)) << "they have had the same";
}

TEST(NodeRateTest, is_divided_anew_when_somebody_comes_leaves_or_wants_less) {
  const auto node = std::make_shared<NodeRate>(100);
  std::vector<std::uint64_t> first, second;
  auto one = node->join(0, [&](std::uint64_t rate) { first.push_back(rate); });
  EXPECT_THAT(first, testing::ElementsAre(100));
  auto two = node->join(0, [&](std::uint64_t rate) { second.push_back(rate); });
  EXPECT_EQ(first.back(), 50u);
  EXPECT_EQ(second.back(), 50u);
  two->set_limit(20);
  EXPECT_EQ(first.back(), 80u);
  EXPECT_EQ(second.back(), 20u);
  two->set_limit(70);
  EXPECT_EQ(second.back(), 50u);
  one.reset();
  EXPECT_EQ(second.back(), 70u);
  const std::size_t told = second.size();
  two->set_limit(70);
  EXPECT_EQ(second.size(), told) << "nothing new";
}

TEST(NodeRateTest, that_is_changed_is_shared_as_fairly_as_before) {
  const auto node = std::make_shared<NodeRate>(100);
  std::uint64_t first = 0, second = 0;
  const auto one = node->join(0, [&](std::uint64_t rate) { first = rate; });
  const auto two = node->join(30, [&](std::uint64_t rate) { second = rate; });
  EXPECT_EQ(first, 70u);
  EXPECT_EQ(second, 30u);
  node->set_cap(40);
  EXPECT_EQ(first, 20u);
  EXPECT_EQ(second, 20u);
  node->set_cap(0);
  EXPECT_EQ(first, 0u) << "no limit";
  EXPECT_EQ(second, 30u) << "its own one";
  node->set_cap(50);
  EXPECT_EQ(first, 25u);
  EXPECT_EQ(second, 25u);
}

}  // namespace
}  // namespace godwit::service
