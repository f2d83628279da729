// The API over HTTPS, with two fake agents behind it; bad input above all.
#include "coordinator/testing/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::coordinator {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class ApiTest : public testing::Test {
 protected:
  Cluster c;

  json get(const std::string& target) {
    const net::HttpResponse r = c.request({.target = target});
    status = r.status;
    return json::parse(r.body, nullptr, false);
  }
  json post(const std::string& target, const std::string& body, const std::string& who = "operator/ann") {
    const net::HttpResponse r = c.request({.method = "POST", .target = target, .body = body}, who);
    status = r.status;
    return json::parse(r.body, nullptr, false);
  }
  void expect_error(const json& body, unsigned expected_status, const std::string& code) {
    EXPECT_EQ(status, expected_status) << body;
    EXPECT_EQ(body.value("code", ""), code) << body;
    EXPECT_FALSE(body.value("message", "").empty());
    EXPECT_TRUE(body.contains("hint"));
  }

  unsigned status = 0;
};

TEST_F(ApiTest, lists_nodes_and_workloads) {
  const json nodes = get("/v1/nodes");
  ASSERT_EQ(nodes["nodes"].size(), 2u);
  EXPECT_EQ(nodes["nodes"][0]["name"], "a");
  EXPECT_EQ(nodes["nodes"][0]["state"], "up");
  const json workloads = get("/v1/workloads");
  ASSERT_EQ(workloads["workloads"].size(), 1u);
  EXPECT_EQ(workloads["workloads"][0]["node"], "a");
  EXPECT_EQ(workloads["workloads"][0]["state"], "running");
}

TEST_F(ApiTest, starts_and_kills_a_workload) {
  const json started = post("/v1/workloads", R"({"name": "w", "node": "b", "argv": ["/bin/sleep", "9"]})");
  EXPECT_EQ(status, 201u);
  EXPECT_EQ(started["pid"], 4242);
  expect_error(post("/v1/workloads", R"({"name": "w", "node": "a", "argv": ["/bin/sleep", "9"]})"), 409,
               "already_exists");
  post("/v1/workloads/w/kill", R"({"signal": 9})");
  EXPECT_EQ(status, 200u);
  expect_error(post("/v1/workloads/w/kill", ""), 404, "target_gone");
  expect_error(post("/v1/workloads/nobody/kill", "{}"), 404, "not_found");
}

TEST_F(ApiTest, refuses_a_workload_that_makes_no_sense) {
  expect_error(post("/v1/workloads", R"({"name": "../x", "node": "b", "argv": ["x"]})"), 400, "invalid_argument");
  expect_error(post("/v1/workloads", R"({"name": "x", "node": "b", "argv": []})"), 400, "invalid_argument");
  expect_error(post("/v1/workloads", R"({"name": "x", "node": "b", "argv": "x"})"), 400, "invalid_argument");
  expect_error(post("/v1/workloads", R"({"name": "x", "node": "b", "argv": ["x"], "environment": ["NOVALUE"]})"), 400,
               "invalid_argument");
  expect_error(post("/v1/workloads", R"({"name": "x", "node": "c", "argv": ["x"]})"), 404, "not_found");
}

TEST_F(ApiTest, migrates_and_tells_the_story_as_server_sent_events) {
  const json started = post("/v1/migrations", R"({"workload": "redis", "to": "b"})");
  ASSERT_EQ(status, 202u) << started;
  const std::string id = started["migration"];
  const net::HttpResponse story = c.request({.target = "/v1/migrations/" + id + "/events"});
  EXPECT_THAT(story.content_type, HasSubstr("text/event-stream"));
  for (const char* expected : {"event: phase", "\"phase\":\"surveying\"", "event: round", "event: decision",
                               "\"phase\":\"killing\"", "event: outcome"})
    EXPECT_THAT(story.body, HasSubstr(expected));
  const json report = get("/v1/migrations/" + id);
  EXPECT_EQ(report["outcome"], "done");
  EXPECT_EQ(report["from"], "a");
  EXPECT_EQ(report["rounds"].size(), 3u);
  double sum = 0;
  for (const auto& [name, ms] : report["downtime_steps_ms"].items()) sum += ms.get<double>();
  EXPECT_NEAR(sum, report["downtime_ms"].get<double>(), 1e-6);
  EXPECT_EQ(get("/v1/migrations?workload=redis")["migrations"].size(), 1u);
  EXPECT_EQ(get("/v1/migrations?limit=0")["migrations"].size(), 0u);
}

TEST_F(ApiTest, refuses_migrations_that_cannot_be) {
  expect_error(post("/v1/migrations", R"({"workload": "nobody", "to": "b"})"), 404, "not_found");
  expect_error(post("/v1/migrations", R"({"workload": "redis", "to": "c"})"), 404, "not_found");
  expect_error(post("/v1/migrations", R"({"workload": "redis", "from": "b", "to": "a"})"), 404, "not_found");
  expect_error(post("/v1/migrations", R"({"workload": "redis", "to": "a"})"), 400, "invalid_argument");
  expect_error(post("/v1/migrations", R"({"workload": "redis", "to": "b", "colour": "red"})"), 400, "invalid_argument");
  expect_error(get("/v1/migrations/none"), 404, "not_found");
  expect_error(get("/v1/migrations/none/events"), 404, "not_found");
  expect_error(get("/v1/migrations?limit=many"), 400, "invalid_argument");
}

TEST_F(ApiTest, lets_a_cordoned_node_take_nothing_new) {
  for (int i = 0; i < 2; i++) {
    const json cordoned = post("/v1/nodes/b/cordon", "");
    EXPECT_EQ(status, 200u);
    EXPECT_EQ(cordoned, json({{"name", "b"}, {"cordoned", true}}));
  }
  const json nodes = get("/v1/nodes")["nodes"];
  EXPECT_EQ(nodes[0]["cordoned"], false);
  EXPECT_EQ(nodes[1]["cordoned"], true);
  EXPECT_EQ(nodes[1]["cordoned_by"], "ann");
  const json moved = post("/v1/migrations", R"({"workload": "redis", "to": "b"})");
  expect_error(moved, 422, "refused");
  EXPECT_THAT(moved["message"].get<std::string>(), HasSubstr("node 'b' is cordoned by ann"));
  EXPECT_THAT(moved["hint"].get<std::string>(), HasSubstr("godwit uncordon b"));
  expect_error(post("/v1/workloads", R"({"name": "w", "node": "b", "argv": ["/bin/sleep", "9"]})"), 422, "refused");
  EXPECT_TRUE(c.b.workloads.empty());

  post("/v1/nodes/b/uncordon", "{}");
  EXPECT_EQ(status, 200u);
  post("/v1/migrations", R"({"workload": "redis", "to": "b"})");
  EXPECT_EQ(status, 202u);
}

TEST_F(ApiTest, lets_what_is_on_its_way_to_a_cordoned_node_arrive_and_what_it_has_leave) {
  const std::string id = c.daemon.driver.start(c.to_b());
  c.until([&] { return c.b.destination == api::DESTINATION_BUILDING; });
  c.daemon.registry.cordon("b", "ann");
  EXPECT_EQ(c.finish(id).outcome, Outcome::done);
  c.a.destination = api::DESTINATION_NONE;
  c.b.source = api::SOURCE_NONE;
  post("/v1/nodes/a/uncordon", "");
  const std::string back = post("/v1/migrations", R"({"workload": "redis", "to": "a"})")["migration"];
  EXPECT_EQ(c.finish(back).outcome, Outcome::done) << "from a node that is cordoned";
}

TEST_F(ApiTest, cordons_only_nodes_that_are_known) {
  expect_error(post("/v1/nodes/c/cordon", ""), 404, "not_found");
  expect_error(post("/v1/nodes/c/uncordon", ""), 404, "not_found");
  expect_error(post("/v1/nodes/b/cordon", R"({"force": true})"), 400, "invalid_argument");
  expect_error(post("/v1/nodes/b/bless", ""), 404, "not_found");
  expect_error(get("/v1/nodes/b/cordon"), 404, "not_found");
}

TEST_F(ApiTest, refuses_a_second_migration_of_the_same_workload) {
  c.a.always[api::Envelope::kRound] = Fault::hang_before;
  post("/v1/migrations", R"({"workload": "redis", "to": "b"})");
  EXPECT_EQ(status, 202u);
  expect_error(post("/v1/migrations", R"({"workload": "redis", "to": "b"})"), 409, "busy");
  expect_error(post("/v1/workloads/redis/kill", "{}"), 409, "busy");
}

TEST_F(ApiTest, cancels_a_migration_and_says_who_did) {
  c.a.always[api::Envelope::kRound] = Fault::hang_before;
  const std::string id = post("/v1/migrations", R"({"workload": "redis", "to": "b"})")["migration"];
  const std::string cancel = "/v1/migrations/" + id + "/cancel";
  expect_error(post(cancel, R"({"force": true})"), 400, "invalid_argument");
  expect_error(post("/v1/migrations/none/cancel", ""), 404, "not_found");
  expect_error(get(cancel), 404, "not_found");
  for (const char* body : {"", "{}"}) {
    EXPECT_EQ(post(cancel, body)["migration"], id);
    EXPECT_EQ(status, 202u);
  }
  EXPECT_EQ(c.finish(id).outcome, Outcome::rolled_back);
  const json report = get("/v1/migrations/" + id);
  EXPECT_EQ(report["reason"]["code"], "cancelled");
  EXPECT_EQ(report["reason"]["message"], "cancelled by ann");
  expect_error(post(cancel, ""), 404, "not_found");
}

TEST_F(ApiTest, says_that_a_cancel_comes_too_late) {
  c.b.once[api::Envelope::kCommit] = Fault::hang_after;
  const std::string id = post("/v1/migrations", R"({"workload": "redis", "to": "b"})")["migration"];
  c.until([&] { return c.b.destination == api::DESTINATION_RESUMED; });
  const json body = post("/v1/migrations/" + id + "/cancel", "");
  expect_error(body, 409, "busy");
  EXPECT_THAT(body["message"].get<std::string>(), HasSubstr("too late"));
  EXPECT_EQ(c.finish(id).outcome, Outcome::done);
}

TEST_F(ApiTest, resolves_a_migration_when_somebody_states_that_its_destination_is_off) {
  c.b.always[api::Envelope::kCommit] = Fault::break_before;
  c.b.reconnects = false;
  c.a.peer = nullptr;
  const std::string id = c.migrate().id, resolve = "/v1/migrations/" + id + "/resolve";
  for (const char* body : {"", "{}", R"({"destination_is_off": false})"})
    expect_error(post(resolve, body), 400, "invalid_argument");
  expect_error(post(resolve, R"({"destination_is_off": true, "force": true})"), 400, "invalid_argument");
  expect_error(post(resolve, R"({"destination_is_off": true, "go_on": true})"), 400, "invalid_argument");
  expect_error(post("/v1/migrations/none/resolve", R"({"destination_is_off": true})"), 404, "not_found");
  expect_error(post("/v1/workloads/redis/resolve", R"({"destination_is_off": true})"), 400, "invalid_argument");
  expect_error(post("/v1/workloads/redis/resolve", R"({"node": "a"})"), 400, "invalid_argument");
  expect_error(post("/v1/workloads/redis/resolve", R"({"node": "a", "go_on": true})"), 409, "busy");
  expect_error(post("/v1/workloads/other/resolve", R"({"node": "none", "go_on": true})"), 404, "not_found");
  expect_error(post("/v1/workloads/redis/resolve", R"({"node": "b", "source_is_off": true})"), 400, "invalid_argument");
  EXPECT_TRUE(c.a.resolutions.empty());
  EXPECT_EQ(post(resolve, R"({"destination_is_off": true})")["migration"], id);
  EXPECT_EQ(status, 200u);
  c.until([&] { return c.store.migration(id)->phase == Phase::rolled_back; });
  expect_error(post(resolve, R"({"destination_is_off": true})"), 404, "not_found");
}

TEST_F(ApiTest, changes_the_rate_of_a_migration_while_it_sends) {
  c.a.always[api::Envelope::kRound] = Fault::hang_before;
  const std::string id = post("/v1/migrations", R"({"workload": "redis", "to": "b"})")["migration"];
  const std::string rate = "/v1/migrations/" + id + "/rate";
  c.until([&] { return c.a.asked.back() == api::Envelope::kRound; });
  for (const char* bad : {"", "{}", R"({"rate_limit": -1})", R"({"rate_limit": 1.5})", R"({"rate_limit": 1e30})",
                          R"({"rate_limit": "1"})", R"({"rate_limit": 1, "more": 2})"})
    expect_error(post(rate, bad), 400, "invalid_argument");
  EXPECT_THAT(c.a.rates, testing::IsEmpty());
  EXPECT_EQ(post(rate, R"({"rate_limit": 1048576})")["rate_limit"], 1048576);
  EXPECT_EQ(post(rate, R"({"rate_limit": 0})")["migration"], id);
  EXPECT_THAT(c.a.rates, testing::ElementsAre(1048576u, 0u));
  expect_error(post("/v1/migrations/none/rate", R"({"rate_limit": 1})"), 404, "not_found");
  post("/v1/migrations/" + id + "/cancel", "");
  c.finish(id);
  expect_error(post(rate, R"({"rate_limit": 1})"), 404, "not_found");
  std::vector<nlohmann::json> told;
  for (const StoredEvent& e : c.store.events(id, 0))
    if (e.kind == "rate") told.push_back(e.body);
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0]["rate_limit"], 1048576);
  EXPECT_EQ(told[0]["by"], "ann");
}

TEST_F(ApiTest, changes_the_rate_of_all_that_leave_a_node) {
  EXPECT_EQ(post("/v1/nodes/a/rate", R"({"rate_limit": 1048576})")["node"], "a");
  EXPECT_EQ(status, 200u);
  EXPECT_EQ(post("/v1/nodes/a/rate", R"({"rate_limit": 0})")["rate_limit"], 0);
  EXPECT_THAT(c.a.rates, testing::ElementsAre(1048576u, 0u));
  EXPECT_THAT(c.b.rates, testing::IsEmpty());
  expect_error(post("/v1/nodes/a/rate", "{}"), 400, "invalid_argument");
  expect_error(post("/v1/nodes/x/rate", R"({"rate_limit": 1})"), 404, "not_found");
}

TEST_F(ApiTest, has_no_rate_to_change_before_pages_are_sent) {
  c.a.always[api::Envelope::kSurvey] = Fault::hang_before;
  const std::string id = post("/v1/migrations", R"({"workload": "redis", "to": "b"})")["migration"];
  expect_error(post("/v1/migrations/" + id + "/rate", R"({"rate_limit": 1})"), 409, "busy");
  EXPECT_THAT(c.a.rates, testing::IsEmpty());
  post("/v1/migrations/" + id + "/cancel", "");
  c.finish(id);
}

TEST_F(ApiTest, lists_what_is_under_way) {
  EXPECT_EQ(get("/v1/migrations?under_way=1")["migrations"].size(), 0u);
  c.a.always[api::Envelope::kRound] = Fault::hang_before;
  const std::string id = post("/v1/migrations", R"({"workload": "redis", "to": "b"})")["migration"];
  c.until([&] { return !c.a.asked.empty() && c.a.asked.back() == api::Envelope::kRound; });
  const json list = get("/v1/migrations?under_way=1")["migrations"];
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0]["migration"], id);
  EXPECT_EQ(list[0]["phase"], "precopy");
  EXPECT_EQ(get("/v1/migrations?under_way=1&workload=redis")["migrations"].size(), 1u);
  EXPECT_EQ(get("/v1/migrations?under_way=1&workload=other")["migrations"].size(), 0u);
  expect_error(get("/v1/migrations?under_way=2"), 400, "invalid_argument");
  c.finish(id);
  EXPECT_EQ(get("/v1/migrations?under_way=1")["migrations"].size(), 0u);
}

TEST_F(ApiTest, refuses_to_move_what_has_exited_or_to_where_it_is_already) {
  c.a.workloads[0].set_state("exited");
  c.a.workloads[0].set_exit_code(3);
  expect_error(post("/v1/migrations", R"({"workload": "redis", "to": "b"})"), 404, "target_gone");
  c.a.workloads[0].set_state("running");
  c.b.workloads.push_back(c.a.workloads[0]);
  c.b.workloads[0].set_state("prepared");
  get("/v1/workloads");
  expect_error(post("/v1/migrations", R"({"workload": "redis", "to": "b"})"), 409, "already_exists");
}

TEST_F(ApiTest, says_which_node_is_not_connected) {
  c.b.stop();
  c.until([&] { return !c.daemon.registry.node("b").up; });
  const json body = post("/v1/migrations", R"({"workload": "redis", "to": "b"})");
  expect_error(body, 502, "peer_lost");
  EXPECT_THAT(body["message"].get<std::string>(), HasSubstr("'b' is not connected"));
  EXPECT_EQ(get("/v1/nodes")["nodes"][1]["state"], "lost");
}

TEST_F(ApiTest, answers_nonsense_with_a_stable_error) {
  expect_error(post("/v1/migrations", "{"), 400, "invalid_argument");
  expect_error(post("/v1/migrations", "[1, 2]"), 400, "invalid_argument");
  expect_error(post("/v1/migrations", std::string("\xff\xfe\0", 3)), 400, "invalid_argument");
  expect_error(post("/v1/migrations", std::string(100'000, '[')), 400, "invalid_argument");
  expect_error(post("/v1/migrations", "\"" + std::string(300'000, 'x') + "\""), 400, "invalid_argument");
  expect_error(get("/v1/nothing"), 404, "not_found");
  expect_error(get("/"), 404, "not_found");
  expect_error(get("/v1/migrations/%2e%2e/events/x/y"), 404, "not_found");
  expect_error(post("/v1/nodes", "{}"), 404, "not_found");
}

TEST_F(ApiTest, serves_operators_only) {
  const net::HttpResponse r = c.request({.target = "/v1/nodes"}, "agent/a");
  status = r.status;
  expect_error(json::parse(r.body), 403, "denied");
}

TEST_F(ApiTest, takes_agents_only_with_an_agents_certificate_and_their_own_name) {
  FakeAgent impostor(c.io.get_executor(), "a", c.daemon.agents_address(), tls_of("agent/z"));
  FakeAgent person(c.io.get_executor(), "z", c.daemon.agents_address(), tls_of("operator/z"));
  impostor.start();
  person.start();
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(500);
  c.until([&] { return Clock::now() > deadline; });
  EXPECT_FALSE(impostor.registered());
  EXPECT_FALSE(person.registered());
  EXPECT_TRUE(c.a.registered());
  EXPECT_EQ(c.daemon.registry.nodes().size(), 2u);
}

}  // namespace
}  // namespace godwit::coordinator
