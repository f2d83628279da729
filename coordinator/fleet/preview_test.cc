// What a migration would be told, with two fake agents: both sides are asked, and nothing is left anywhere.
#include "coordinator/testing/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace godwit::coordinator {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using Env = api::Envelope;

class PreviewTest : public testing::Test {
 protected:
  Cluster c;

  json preview(const std::string& body) {
    const net::HttpResponse r = c.request({.method = "POST", .target = "/v1/migrations/preview", .body = body});
    status = r.status;
    return json::parse(r.body, nullptr, false);
  }
  static std::vector<std::string> lines(const json& preview) {
    std::vector<std::string> found;
    for (const json& o : preview["obstacles"])
      found.push_back(fmt::format("{} {} {}", o["where"].get<std::string>(), o["code"].get<std::string>(),
                                  o["message"].get<std::string>()));
    return found;
  }
  void expect_no_trace() {
    EXPECT_TRUE(c.store.migrations(10).empty());
    EXPECT_TRUE(c.daemon.driver.under_way().empty());
    EXPECT_EQ(c.store.highest_epoch("redis"), 0u);
    for (const FakeAgent* agent : {&c.a, &c.b})
      for (const auto asked : agent->asked)
        EXPECT_TRUE(asked == Env::kListWorkloads || asked == Env::kSurvey || asked == Env::kCheck) << asked;
    EXPECT_EQ(c.b.destination, api::DESTINATION_NONE);
  }

  unsigned status = 0;
};

TEST_F(PreviewTest, says_that_it_would_move_and_what_it_would_cost) {
  const json p = preview(R"({"workload": "redis", "to": "b"})");
  EXPECT_EQ(status, 200u);
  EXPECT_EQ(p["would_move"], true);
  EXPECT_EQ(p["from"], "a");
  EXPECT_EQ(p["resident_bytes"], 1'000'000'000);
  EXPECT_EQ(p["predicted"]["bytes"], 1'000'000'000);
  EXPECT_GT(p["predicted"]["total_s"].get<double>(), 1);
  EXPECT_GT(p["predicted"]["downtime_ms"].get<double>(), 0);
  EXPECT_THAT(p["predicted"]["basis"].get<std::string>(), HasSubstr("nothing was measured"));
  expect_no_trace();
  EXPECT_EQ(c.migrate().epoch, 4u) << "the one that a migration without a preview would have";
}

TEST_F(PreviewTest, takes_a_named_policy) {
  c.daemon.policies = policies_from_json(
      json::parse(R"({"policies": {"slow": {"rate_limit": 100000000, "downtime_ms": 90}}})"), "test");
  const json p = preview(R"({"workload": "redis", "to": "b", "policy": "slow"})");
  EXPECT_EQ(p["would_move"], true) << p;
  EXPECT_EQ(p["downtime_budget_ms"], 90.0);
  EXPECT_GT(p["predicted"]["total_s"].get<double>(), 10) << "a GB at that rate";
  EXPECT_EQ(preview(R"({"workload": "redis", "to": "b", "policy": "fast"})")["code"], "not_found");
  expect_no_trace();
}

TEST_F(PreviewTest, predicts_from_the_last_migrations_of_the_workload) {
  ASSERT_EQ(c.migrate().outcome, Outcome::done);
  const json p = preview(R"({"workload": "redis", "to": "a"})");
  EXPECT_EQ(p["predicted"]["downtime_ms"], 40.0);
  EXPECT_THAT(p["predicted"]["basis"].get<std::string>(), HasSubstr("the last 1 of this workload"));
}

TEST_F(PreviewTest, foretells_the_rounds_by_how_it_wrote_the_last_time) {
  EXPECT_THAT(preview(R"({"workload": "redis", "to": "b"})")["notices"], testing::IsEmpty());
  ASSERT_EQ(c.migrate().outcome, Outcome::done);
  const json p = preview(R"({"workload": "redis", "to": "a"})");
  EXPECT_EQ(p["would_move"], true) << p;
  ASSERT_EQ(p["notices"].size(), 1u) << p;
  EXPECT_THAT(p["notices"].at(0).get<std::string>(),
              HasSubstr("if it writes as when it was last moved: 2 rounds, then a pause"));
}

TEST_F(PreviewTest, passes_on_what_the_destination_wants_known) {
  c.b.notices = {"the network stays open"};
  const json p = preview(R"({"workload": "redis", "to": "b"})");
  EXPECT_EQ(p["would_move"], true) << p;
  EXPECT_EQ(p["notices"], json::array({"the network stays open"}));
}

TEST_F(PreviewTest, refuses_for_how_it_wrote_the_last_time) {
  c.a.dirty_after = {900'000'000};
  ASSERT_EQ(c.migrate().outcome, Outcome::rolled_back);
  const json p = preview(R"({"workload": "redis", "to": "b"})");
  EXPECT_EQ(p["would_move"], false) << p;
  ASSERT_EQ(p["obstacles"].size(), 1u) << p;
  EXPECT_THAT(lines(p), ElementsAre(HasSubstr("coordinator refused if it writes as when it was last moved: ")));
  EXPECT_THAT(p["obstacles"][0]["hint"].get<std::string>(), HasSubstr("could be met (--downtime)"));
  EXPECT_EQ(preview(R"({"workload": "redis", "to": "b", "on_no_progress": "force"})")["would_move"], true);
  EXPECT_EQ(preview(R"({"workload": "redis", "to": "b", "downtime_ms": 2000})")["would_move"], true);
}

// Of a workload that was never moved, over a path of which something is known.
TEST_F(PreviewTest, refuses_for_how_it_writes_by_a_probe) {
  ASSERT_EQ(c.migrate().outcome, Outcome::done);
  c.b.probes.clear();
  c.b.writes = {{0.1, 900'000'000}, {1, 1'000'000'000}, {2, 1'000'000'000}};  // over a path of 1 GB/s
  const std::string body = R"({"workload": "redis", "to": "a", "probe_s": 2})";
  const json p = preview(body);
  EXPECT_THAT(c.b.probes, ElementsAre(2000u));
  EXPECT_THAT(lines(p), ElementsAre(HasSubstr("coordinator refused if it goes on writing as by the probe: ")));
  EXPECT_THAT(p["obstacles"][0]["hint"].get<std::string>(), HasSubstr("could be met (--downtime)"));
  ASSERT_EQ(p["dirty"].size(), 3u) << p;
  EXPECT_EQ(p["dirty"][2], json({{"seconds", 2.0}, {"bytes", 1'000'000'000}}));
  c.b.writes = {{2, 4096}};
  EXPECT_EQ(preview(body)["would_move"], true);
  c.b.writes = {{-1, 4096}};
  EXPECT_THAT(lines(preview(body)), ElementsAre(HasSubstr("source invalid_argument the seconds of points must grow")));
}

TEST_F(PreviewTest, probes_only_when_it_is_asked_to) {
  c.a.writes = {{2, 1'000'000'000}};
  const json p = preview(R"({"workload": "redis", "to": "b"})");
  EXPECT_EQ(p["would_move"], true);
  EXPECT_EQ(p["dirty"], json());
  c.daemon.registry.cordon("b", "ann");
  preview(R"({"workload": "redis", "to": "b", "probe_s": 2})");
  EXPECT_THAT(c.a.probes, ElementsAre(0u, 0u)) << "what does not go anyway is left alone";
}

TEST_F(PreviewTest, does_not_refuse_over_a_path_that_it_only_assumes) {
  c.a.writes = {{1, 900'000'000}, {2, 1'000'000'000}};
  const json p = preview(R"({"workload": "redis", "to": "b", "probe_s": 2})");
  EXPECT_EQ(p["would_move"], true) << p;
  ASSERT_EQ(p["notices"].size(), 1u) << p;
  EXPECT_THAT(p["notices"].at(0).get<std::string>(), HasSubstr("over a gigabit link, which is assumed: "));
  // With a limit on the rate it is known what the path does not exceed.
  EXPECT_THAT(lines(preview(R"({"workload": "redis", "to": "b", "probe_s": 2, "rate_limit": 500000000})")),
              ElementsAre(HasSubstr("coordinator refused if it goes on writing as by the probe: ")));
}

TEST_F(PreviewTest, lists_everything_that_would_be_refused_at_once) {
  c.a.survey_refusals = {"fd 7: a raw socket", "an established TCP connection"};
  c.b.check_refusals = {"/bin/x is not there", "PID 7 is taken here"};
  c.daemon.registry.cordon("b", "ann");
  EXPECT_THAT(lines(preview(R"({"workload": "redis", "to": "b"})")),
              ElementsAre(HasSubstr("coordinator refused node 'b' is cordoned"), "source refused fd 7: a raw socket",
                          "source refused an established TCP connection", "destination refused /bin/x is not there",
                          "destination refused PID 7 is taken here"));
  EXPECT_EQ(status, 200u);
  expect_no_trace();
}

TEST_F(PreviewTest, says_what_it_can_when_somebody_is_missing) {
  EXPECT_THAT(lines(preview(R"({"workload": "nobody", "to": "c"})")),
              ElementsAre("coordinator not_found no node 'c'", "coordinator not_found no workload 'nobody'"));
  EXPECT_THAT(lines(preview(R"({"workload": "redis", "to": "a"})")),
              ElementsAre(HasSubstr("coordinator invalid_argument source and destination are the same node 'a'")));
  c.b.stop();
  c.until([&] { return !c.daemon.registry.node("b").up; });
  c.a.survey_refusals = {"fd 7: a raw socket"};
  EXPECT_THAT(lines(preview(R"({"workload": "redis", "to": "b"})")),
              ElementsAre("coordinator peer_lost node 'b' is not connected", "source refused fd 7: a raw socket"));
  expect_no_trace();
}

TEST_F(PreviewTest, says_that_a_budget_cannot_be_met_where_a_migration_would_be_refused_for_it) {
  const json p = preview(R"({"workload": "redis", "to": "b", "downtime_ms": 5})");
  EXPECT_EQ(p["would_move"], false) << p;
  EXPECT_THAT(lines(p), ElementsAre(HasSubstr("coordinator refused the budget cannot be met")));
  EXPECT_THAT(p["obstacles"][0]["hint"].get<std::string>(), HasSubstr("could be met (--downtime)"));
  EXPECT_EQ(preview(R"({"workload": "redis", "to": "b", "downtime_ms": 5, "on_no_progress": "force"})")["would_move"],
            true);
  expect_no_trace();
}

TEST_F(PreviewTest, names_the_side_that_fails_to_answer) {
  c.a.once[Env::kSurvey] = Fault::refuse;
  EXPECT_THAT(lines(preview(R"({"workload": "redis", "to": "b"})")),
              ElementsAre("source internal the fake agent says no"));
  c.b.once[Env::kCheck] = Fault::wrong_answer;
  EXPECT_THAT(lines(preview(R"({"workload": "redis", "to": "b"})")),
              ElementsAre(HasSubstr("destination protocol node 'b' does not answer a check with one")));
  expect_no_trace();
}

TEST_F(PreviewTest, names_the_migration_that_is_in_the_way) {
  c.a.always[Env::kRound] = Fault::hang_before;
  const std::string id = c.daemon.driver.start(c.to_b());
  EXPECT_THAT(lines(preview(R"({"workload": "redis", "to": "b"})")),
              ElementsAre(HasSubstr("coordinator busy workload 'redis' is already being migrated by " + id)));
  c.daemon.driver.cancel(id, "ann");
  EXPECT_EQ(c.finish(id).reason->code, Errc::cancelled) << "the preview changed nothing about it";
}

TEST_F(PreviewTest, takes_no_request_that_a_migration_would_not_take) {
  EXPECT_EQ(preview(R"({"workload": "redis"})")["code"], "invalid_argument");
  EXPECT_EQ(preview("{")["code"], "invalid_argument");
  EXPECT_EQ(status, 400u);
}

}  // namespace
}  // namespace godwit::coordinator
