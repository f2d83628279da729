// A node is emptied, with three fake agents: a is left, b and c take what it had.
#include "coordinator/testing/node_to_empty.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace godwit::coordinator {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;
using Env = api::Envelope;

net::awaitable<void> look_at(AgentService& agents, std::string node) { co_await agents.refresh(node); }

class EvacuationTest : public testing::Test {
 protected:
  Cluster c{limits_of_plans(std::chrono::seconds(10))};
  FakeAgent third{c.io.get_executor(), "c", c.daemon.agents_address(), tls_of("agent/c")};

  void SetUp() override {
    c.a.workloads.clear();
    for (const char* name : {"one", "two", "three", "four"}) c.a.workloads.push_back(running_workload(name));
    third.start();
    c.until([this] { return third.registered(); });
    c.request({.target = "/v1/workloads"});
  }
  json post(const std::string& target, const std::string& body) {
    const net::HttpResponse r = c.request({.method = "POST", .target = target, .body = body});
    status = r.status;
    return json::parse(r.body, nullptr, false);
  }
  json report() { return json::parse(c.request({.target = "/v1/nodes/a/evacuation"}).body); }
  json finish() {
    c.until([this] { return report()["state"] == "ended"; }, std::chrono::seconds(30));
    return report();
  }
  json evacuate(const std::string& body = "{}") {
    const json begun = post("/v1/nodes/a/evacuate", body);
    EXPECT_EQ(status, 202u) << begun;
    return finish();
  }
  static std::vector<std::string> lines(const json& report) {
    std::vector<std::string> found;
    for (const json& w : report["workloads"])
      found.push_back(w["workload"].get<std::string>() + " " + w["state"].get<std::string>() + " " +
                      (w["to"].is_null() ? w["reason"].value("message", "") : w["to"].get<std::string>()));
    return found;
  }
  static std::vector<std::string> names(const FakeAgent& agent) {
    std::vector<std::string> found;
    for (const api::WorkloadInfo& w : agent.workloads) found.push_back(w.name());
    return found;
  }
  void hang_in_the_first_rounds() { c.a.always[Env::kRound] = Fault::hang_before; }
  std::size_t rounds_asked() const { return static_cast<std::size_t>(std::ranges::count(c.a.asked, Env::kRound)); }

  unsigned status = 0;
};

TEST_F(EvacuationTest, moves_every_workload_and_leaves_the_node_cordoned) {
  const json r = evacuate();
  EXPECT_THAT(lines(r), ElementsAre("four moved b", "one moved c", "three moved b", "two moved c"));
  EXPECT_EQ(r["empty"], true);
  EXPECT_EQ(r["cordoned"], true);
  for (const json& w : r["workloads"]) {
    EXPECT_EQ(w["downtime_ms"], 40.0);
    EXPECT_GT(w["predicted"]["downtime_ms"].get<double>(), 0);
    EXPECT_EQ(c.store.migration(w["migration"])->outcome, Outcome::done);
  }
  EXPECT_TRUE(c.a.workloads.empty());
  EXPECT_THAT(names(c.b), UnorderedElementsAre("four", "three"));
  EXPECT_THAT(names(third), UnorderedElementsAre("one", "two"));
  EXPECT_EQ(c.store.cordons().at(0).by, "ann");
}

TEST_F(EvacuationTest, shows_the_plan_of_a_dry_run_and_touches_nothing) {
  c.b.check_refusals = {"PID 7 is taken here"};
  const json r = post("/v1/nodes/a/evacuate", R"({"dry_run": true, "parallel": 2})");
  EXPECT_EQ(status, 200u);
  EXPECT_THAT(lines(r), UnorderedElementsAre("four waiting c", "one waiting c", "three waiting c", "two waiting c"));
  for (const json& w : r["workloads"]) EXPECT_NEAR(w["predicted"]["total_s"].get<double>(), 9.6, 0.1);
  EXPECT_EQ(r["cordoned"], false);
  EXPECT_TRUE(c.store.migrations(10).empty());
  EXPECT_TRUE(c.store.cordons().empty());
  EXPECT_EQ(c.a.workloads.size(), 4u);
  c.request({.target = "/v1/nodes/a/evacuation"});
  EXPECT_EQ(report()["code"], "not_found");
}

// A gigabyte each, over the gigabit link that is assumed: 9.1 s, and half a second of setup.
TEST_F(EvacuationTest, foretells_how_long_all_take_that_share_a_link) {
  const auto total = [&](const std::string& body) {
    return post("/v1/nodes/a/evacuate", body)["predicted_total_s"].get<double>();
  };
  EXPECT_NEAR(total(R"({"dry_run": true, "parallel": 1})"), 4 * 9.1 + 4 * 0.5, 0.2);
  EXPECT_NEAR(total(R"({"dry_run": true, "parallel": 2})"), 4 * 9.1 + 0.5, 0.2);
  EXPECT_NEAR(total(R"({"dry_run": true, "parallel": 4})"), 4 * 9.1 + 0.5, 0.2);
  // With a limit for each the link carries all four.
  EXPECT_NEAR(total(R"({"dry_run": true, "parallel": 4, "options": {"rate_limit": 10000000}})"), 100.5, 0.2);
  EXPECT_NEAR(total(R"({"dry_run": true, "parallel": 2, "options": {"rate_limit": 10000000}})"), 2 * 100.5, 0.2);
}

TEST_F(EvacuationTest, takes_a_named_policy_for_all_of_its_migrations) {
  c.daemon.policies =
      policies_from_json(json::parse(R"({"policies": {"slow": {"rate_limit": 100000000, "max_rounds": 7}}})"), "test");
  const json plan = post("/v1/nodes/a/evacuate", R"({"dry_run": true, "options": {"policy": "slow"}})");
  EXPECT_EQ(status, 200u) << plan;
  for (const json& w : plan["workloads"]) EXPECT_GT(w["predicted"]["total_s"].get<double>(), 10) << "a GB each";
  EXPECT_EQ(post("/v1/nodes/a/evacuate", R"({"options": {"policy": "fast"}})")["code"], "not_found");
  EXPECT_TRUE(c.store.cordons().empty());
  const json r = evacuate(R"({"options": {"policy": "slow", "downtime_ms": 400}})");
  ASSERT_EQ(r["workloads"].size(), 4u);
  for (const json& w : r["workloads"]) {
    const MigrationSpec spec = c.store.migration(w["migration"])->spec;
    EXPECT_EQ(spec.policy_name, "slow");
    EXPECT_EQ(spec.policy.max_rounds, 7u);
    EXPECT_EQ(spec.rate_limit, 100'000'000u);
    EXPECT_EQ(spec.policy.downtime, std::chrono::milliseconds(400));
  }
}

TEST_F(EvacuationTest, goes_only_where_it_may) {
  EXPECT_THAT(lines(evacuate(R"({"to": ["c"]})")),
              ElementsAre("four moved c", "one moved c", "three moved c", "two moved c"));
}

TEST_F(EvacuationTest, names_what_fits_nowhere_and_moves_the_rest) {
  c.b.memory_available = 3'500'000'000;  // three, with their spools
  c.daemon.registry.cordon("c", "bob");
  const json r = evacuate();
  EXPECT_THAT(lines(r), ElementsAre("four moved b", "one moved b", "three moved b",
                                    HasSubstr("two stays it fits nowhere: a: it is the node to be left; b: ")));
  EXPECT_THAT(lines(r).back(), HasSubstr("c: it is cordoned"));
  EXPECT_EQ(r["workloads"][3]["reason"]["code"], "refused");
  EXPECT_EQ(r["empty"], false);
}

// The node itself says that there is room until the first of them uses it.
TEST_F(EvacuationTest, counts_what_another_one_or_a_single_migration_takes_to_the_same_node) {
  third.memory_available = 1'500'000'000;
  c.a.workloads = {running_workload("one")};
  c.b.workloads = {running_workload("other")};
  c.request({.target = "/v1/workloads"});
  hang_in_the_first_rounds();
  const auto plan_for_b = [this] {
    return lines(post("/v1/nodes/b/evacuate", R"({"dry_run": true, "to": ["c"]})")).at(0);
  };
  EXPECT_EQ(plan_for_b(), "other waiting c");
  post("/v1/nodes/a/evacuate", R"({"to": ["c"]})");
  c.until([this] { return rounds_asked() == 1; });
  EXPECT_THAT(plan_for_b(),
              HasSubstr("other stays it fits nowhere: c: 985.7 MiB of memory are needed, 444.8 MiB are free"));
  post("/v1/nodes/a/evacuation/cancel", "");
  finish();
  EXPECT_EQ(plan_for_b(), "other waiting c") << "nothing is promised any more";

  c.daemon.registry.uncordon("a");
  MigrationSpec spec;
  spec.workload = "one";
  spec.destination = "c";
  const std::string id = c.daemon.driver.start(spec);
  c.until([this] { return rounds_asked() == 2; });
  EXPECT_THAT(plan_for_b(), HasSubstr("444.8 MiB are free"));
  c.daemon.driver.cancel(id, "ann");
  c.until([&] { return !c.daemon.driver.find(id); });
}

// Two are placed on nodes that have room for one each; the second is turned away by its own, where the first has gone
// there is none left.
TEST_F(EvacuationTest, counts_what_has_arrived_since_it_looked) {
  c.a.workloads = {running_workload("one"), running_workload("two")};
  c.b.memory_available = 1'500'000'000;
  third.memory_available = 1'400'000'000;
  c.b.on_request = [this](Env::BodyCase body) {
    if (body == Env::kCommit) c.b.memory_available -= 1'000'000'000;
  };
  third.always[Env::kPrepare] = Fault::refuse;
  third.refusal = Errc::refused;
  const json r = evacuate();
  EXPECT_THAT(lines(r), testing::Contains("one moved b"));
  EXPECT_THAT(lines(r).back(),
              HasSubstr("two stays it fits nowhere: a: it is the node to be left; b: 985.7 MiB of memory "
                        "are needed, 476.8 MiB are free; c: "));
}

// What of another one has arrived shows in what the node says of itself, and is promised as well: there is no room
// until all of it has.
TEST_F(EvacuationTest, waits_for_room_that_only_seems_to_be_taken) {
  c.a.workloads = {running_workload("one")};
  third.workloads = {running_workload("other")};
  c.request({.target = "/v1/workloads"});
  c.b.on_request = [this](Env::BodyCase body) {
    if (body == Env::kPrepare) c.b.memory_available = 1'900'000'000;
  };
  third.late_by = std::chrono::milliseconds(1500);
  third.once[Env::kRound] = Fault::late;
  MigrationSpec spec;
  spec.workload = "other";
  spec.destination = "b";
  c.daemon.driver.start(spec);
  c.until([&] { return std::ranges::count(third.asked, Env::kRound) == 1; });
  const std::string no_room = "it fits nowhere: b: 985.7 MiB of memory are needed, 826.3 MiB are free";
  EXPECT_THAT(lines(post("/v1/nodes/a/evacuate", R"({"dry_run": true, "to": ["b"]})")),
              ElementsAre("one stays " + no_room));
  post("/v1/nodes/a/evacuate", R"({"to": ["b"]})");
  c.until([this] { return report()["state"] == "moving"; });
  EXPECT_THAT(lines(report()), ElementsAre("one waiting " + no_room));
  EXPECT_THAT(lines(finish()), ElementsAre("one moved b"));
}

TEST_F(EvacuationTest, goes_elsewhere_when_a_destination_has_vanished_or_changed_since_it_was_chosen) {
  enum class Change { lost, cordoned, twin };
  for (const Change change : {Change::lost, Change::cordoned, Change::twin}) {
    Cluster other(limits_of_plans(std::chrono::seconds(10)));
    FakeAgent away(other.io.get_executor(), "c", other.daemon.agents_address(), tls_of("agent/c"));
    other.a.workloads = {running_workload("one"), running_workload("two")};
    away.start();
    other.until([&] { return away.registered(); });
    other.request({.target = "/v1/workloads"});
    other.a.late_by = std::chrono::seconds(1);
    other.a.once[Env::kRound] = Fault::late;  // of one, which goes to b; two is to go to c
    other.request({.method = "POST", .target = "/v1/nodes/a/evacuate", .body = "{}"});
    other.until([&] { return std::ranges::count(other.a.asked, Env::kRound) == 1; });
    if (change == Change::lost) away.stop();
    if (change == Change::cordoned) other.daemon.registry.cordon("c", "bob");
    if (change == Change::twin) away.workloads.push_back(running_workload("two"));
    if (change == Change::twin) net::run_to_end(other.io, look_at(other.daemon.agents, "c"));
    json r;
    other.until([&] {
      r = json::parse(other.request({.target = "/v1/nodes/a/evacuation"}).body);
      return r["state"] == "ended";
    });
    EXPECT_THAT(lines(r), UnorderedElementsAre("one moved b", "two moved b")) << static_cast<int>(change);
  }
}

TEST_F(EvacuationTest, names_what_cannot_be_carried) {
  c.a.survey_refusals = {"fd 7: a raw socket"};
  const json r = evacuate();
  EXPECT_THAT(lines(r).at(0), HasSubstr("four stays cannot be moved: fd 7: a raw socket"));
  EXPECT_EQ(r["empty"], false);
  EXPECT_TRUE(c.store.migrations(10).empty());
}

TEST_F(EvacuationTest, tries_another_node_when_a_destination_turns_it_away) {
  c.b.always[Env::kPrepare] = Fault::refuse;
  c.b.refusal = Errc::refused;
  const json r = evacuate();
  EXPECT_EQ(r["empty"], true);
  EXPECT_EQ(third.workloads.size(), 4u);
}

TEST_F(EvacuationTest, does_not_try_elsewhere_what_failed_at_home) {
  c.a.once[Env::kFreeze] = Fault::refuse;
  const json r = evacuate();
  EXPECT_EQ(r["workloads"][0]["state"], "failed");
  EXPECT_THAT(r["workloads"][0]["reason"]["message"].get<std::string>(), HasSubstr("says no"));
  EXPECT_EQ(r["empty"], false);
  EXPECT_THAT(names(c.a), ElementsAre("four"));
}

TEST_F(EvacuationTest, moves_no_more_at_once_than_it_was_told) {
  hang_in_the_first_rounds();
  post("/v1/nodes/a/evacuate", R"({"parallel": 2})");
  c.until([this] { return rounds_asked() == 2; });
  const Clock::time_point later = Clock::now() + std::chrono::milliseconds(300);
  c.until([&] { return Clock::now() > later; });
  EXPECT_EQ(rounds_asked(), 2u);
  EXPECT_EQ(c.daemon.driver.under_way().size(), 2u);
  post("/v1/nodes/a/evacuation/cancel", "");
  finish();
}

TEST_F(EvacuationTest, begins_none_after_a_cancel_and_rolls_back_what_can_be) {
  hang_in_the_first_rounds();
  post("/v1/nodes/a/evacuate", R"({"parallel": 2})");
  c.until([this] { return rounds_asked() == 2; });
  post("/v1/nodes/a/evacuation/cancel", "");
  EXPECT_EQ(status, 202u);
  const json r = finish();
  EXPECT_EQ(r["cancelled_by"], "ann");
  EXPECT_EQ(r["empty"], false);
  for (const json& w : r["workloads"]) EXPECT_EQ(w["reason"]["code"], "cancelled") << w;
  EXPECT_EQ(c.store.migrations(10).size(), 2u) << "none began";
  for (const char* name : {"one", "two", "three", "four"}) EXPECT_TRUE(c.a.runs(name));
  EXPECT_EQ(r["cordoned"], true);
  EXPECT_EQ(post("/v1/nodes/a/evacuation/cancel", "")["code"], "not_found") << "it is over";

  c.a.always.clear();
  EXPECT_EQ(evacuate()["empty"], true) << "a second one does the rest";
}

TEST_F(EvacuationTest, lets_one_that_is_committed_arrive_after_a_cancel) {
  c.b.once[Env::kCommit] = Fault::hang_after;
  post("/v1/nodes/a/evacuate", "{}");
  c.until([this] { return c.b.destination == api::DESTINATION_RESUMED; });
  post("/v1/nodes/a/evacuation/cancel", "");
  const json r = finish();
  EXPECT_EQ(lines(r).size(), 4u);
  EXPECT_EQ(std::ranges::count_if(r["workloads"], [](const json& w) { return w["state"] == "moved"; }), 1);
  EXPECT_EQ(c.a.workloads.size(), 3u);
}

TEST_F(EvacuationTest, waits_for_one_that_is_on_its_way_already) {
  hang_in_the_first_rounds();
  MigrationSpec spec;
  spec.workload = "two";
  spec.destination = "b";
  const std::string id = c.daemon.driver.start(spec);
  post("/v1/nodes/a/evacuate", R"({"parallel": 1})");
  c.until([this] { return report()["state"] == "moving"; });
  EXPECT_EQ(c.daemon.driver.under_way(), std::vector<std::string>{id}) << "one at once";
  c.daemon.driver.cancel(id, "bob");
  c.until([&] { return !c.daemon.driver.find(id); });
  c.a.always.clear();
  const json r = finish();
  for (const json& w : r["workloads"])
    EXPECT_EQ(w["state"], w["workload"] == "two" ? "failed" : "moved") << "the operator did not want it to move";
}

TEST_F(EvacuationTest, moves_what_was_being_rehearsed_when_it_began) {
  c.a.late_by = std::chrono::seconds(2);
  c.a.once[Env::kRound] = Fault::late;
  MigrationSpec spec;
  spec.workload = "two";
  spec.destination = "b";
  spec.rehearse = true;
  const std::string id = c.daemon.driver.start(spec);
  c.until([this] { return rounds_asked() == 1; });
  post("/v1/nodes/a/evacuate", "{}");
  const auto moves_two = [&](const json& w) { return w["workload"] == "two" && w["migration"] == id; };
  c.until([&] {
    const json r = report();  // named: its parts are looked at
    return std::ranges::any_of(r["workloads"], moves_two);
  });
  const json r = finish();
  EXPECT_EQ(c.store.migration(id)->outcome, Outcome::rehearsed);
  EXPECT_EQ(r["empty"], true) << r;
  for (const json& w : r["workloads"]) EXPECT_EQ(w["state"], "moved") << w;
}

TEST_F(EvacuationTest, does_not_end_while_one_is_on_its_way_to_the_node) {
  c.b.workloads.push_back(running_workload("late"));
  c.a.workloads = {running_workload("one")};
  c.request({.target = "/v1/workloads"});
  MigrationSpec spec;
  spec.workload = "late";
  spec.destination = "a";
  c.b.once[Env::kConnect] = Fault::hang_before;  // for as long as a time-out: then it comes back to b
  const std::string id = c.daemon.driver.start(spec);
  c.until([this] { return std::ranges::count(c.b.asked, Env::kConnect) > 0; });
  post("/v1/nodes/a/evacuate", R"({"to": ["c"]})");
  const Clock::time_point later = Clock::now() + std::chrono::milliseconds(300);
  c.until([&] { return Clock::now() > later; });
  EXPECT_NE(report()["state"], "ended") << "a workload is on its way to the node";
  c.until([&] { return !c.daemon.driver.find(id); });
  EXPECT_EQ(finish()["empty"], true);
}

TEST_F(EvacuationTest, waits_for_what_is_only_being_started) {
  c.a.workloads = {running_workload("one")};
  c.a.workloads[0].set_state("starting");
  c.request({.target = "/v1/workloads"});
  const json plan = post("/v1/nodes/a/evacuate", R"({"to": ["c"], "dry_run": true})");
  EXPECT_THAT(lines(plan), ElementsAre("one stays it is starting"));
  post("/v1/nodes/a/evacuate", R"({"to": ["c"]})");
  const Clock::time_point later = Clock::now() + std::chrono::milliseconds(300);
  c.until([&] { return Clock::now() > later; });
  EXPECT_NE(report()["state"], "ended");
  c.a.workloads[0].set_state("running");
  EXPECT_THAT(lines(finish()), ElementsAre("one moved c"));
}

TEST_F(EvacuationTest, keeps_nobody_waiting_for_a_start_after_a_cancel) {
  c.a.workloads = {running_workload("one")};
  c.a.workloads[0].set_state("starting");
  post("/v1/nodes/a/evacuate", "{}");
  post("/v1/nodes/a/evacuation/cancel", "{}");
  EXPECT_THAT(lines(finish()), ElementsAre("one stays it is starting"));
}

TEST_F(EvacuationTest, survives_the_loss_of_a_destination) {
  third.stop();
  c.until([this] { return !c.daemon.registry.node("c").up; });
  EXPECT_THAT(lines(evacuate()), ElementsAre("four moved b", "one moved b", "three moved b", "two moved b"));
}

TEST_F(EvacuationTest, refuses_what_makes_no_sense) {
  EXPECT_EQ(post("/v1/nodes/x/evacuate", "{}")["code"], "not_found");
  EXPECT_EQ(post("/v1/nodes/a/evacuate", R"({"to": ["x"]})")["code"], "not_found");
  EXPECT_EQ(post("/v1/nodes/a/evacuate", R"({"to": ["a"]})")["code"], "invalid_argument");
  EXPECT_EQ(post("/v1/nodes/a/evacuate", R"({"parallel": 0})")["code"], "invalid_argument");
  EXPECT_EQ(post("/v1/nodes/a/evacuate", R"({"options": {"colour": "red"}})")["code"], "invalid_argument");
  EXPECT_EQ(post("/v1/nodes/a/evacuate", R"({"options": {"to": "b"}})")["code"], "invalid_argument");
  EXPECT_EQ(post("/v1/nodes/a/evacuate", R"({"options": 1})")["code"], "invalid_argument");
  EXPECT_EQ(post("/v1/nodes/a/evacuation/cancel", "")["code"], "not_found");
  EXPECT_EQ(report()["code"], "not_found");
  EXPECT_TRUE(c.store.cordons().empty()) << "none of these has cordoned anything";
  hang_in_the_first_rounds();
  post("/v1/nodes/a/evacuate", "{}");
  EXPECT_EQ(post("/v1/nodes/a/evacuate", "{}")["code"], "busy");
  post("/v1/nodes/a/evacuation/cancel", "");
  finish();
  c.a.stop();
  c.until([this] { return !c.daemon.registry.node("a").up; });
  EXPECT_EQ(post("/v1/nodes/a/evacuate", "{}")["code"], "peer_lost");
}

}  // namespace
}  // namespace godwit::coordinator
