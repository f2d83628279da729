#include "coordinator/migration/policies.h"

#include "coordinator/migration/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::coordinator {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::HasSubstr;

std::string refusal(const std::string& text) {
  try {
    policies_from_json(json::parse(text), "/etc/godwit.json");
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::invalid_argument);
    return e.message();
  }
  return "accepted";
}

const Policies two = policies_from_json(json::parse(R"({"policies": {
    "gentle": {"about": "for the day", "downtime_ms": 100, "max_rounds": 50, "max_total_s": 600,
               "rate_limit": 12500000, "on_no_progress": "abort", "throttle_steps": [70, 30],
               "if_lost": "hold", "probe_s": 2.5},
    "now": {"on_no_progress": "force"}}})"),
                                        "two.json");

TEST(Policies, are_read_with_every_value) {
  const Policy& gentle = policy_named(two, "gentle");
  EXPECT_EQ(gentle.about, "for the day");
  EXPECT_EQ(gentle.options.downtime, 100ms);
  EXPECT_EQ(gentle.options.max_rounds, 50u);
  EXPECT_EQ(gentle.options.max_total_time, 600s);
  EXPECT_EQ(gentle.options.on_no_progress, OnNoProgress::abort);
  EXPECT_EQ(gentle.rate_limit, 12'500'000u);
  EXPECT_THAT(gentle.options.throttle_steps, testing::ElementsAre(70u, 30u));
  EXPECT_EQ(gentle.options.if_lost, IfLost::hold);
  EXPECT_EQ(gentle.options.probe, 2500ms);
  const Policy& now = policy_named(two, "now");
  EXPECT_EQ(now.options.downtime, 300ms) << "what is not named is as without a policy";
  EXPECT_EQ(now.options.on_no_progress, OnNoProgress::force);
}

TEST(Policies, are_shown_by_the_names_that_they_are_read_by) {
  json shown = to_json("gentle", policy_named(two, "gentle"));
  EXPECT_EQ(shown["name"], "gentle");
  shown.erase("name");
  const Policies again = policies_from_json({{"policies", {{"gentle", shown}}}}, "again");
  EXPECT_EQ(to_json("gentle", again.at("gentle")), to_json("gentle", two.at("gentle")));
}

TEST(Policies, name_those_that_there_are_to_who_asks_for_another) {
  try {
    policy_named(two, "fast");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.errc(), Errc::not_found);
    EXPECT_THAT(e.message(), HasSubstr("no policy 'fast'; there are gentle, now"));
    EXPECT_THAT(e.hint(), HasSubstr("godwit policies"));
  }
  EXPECT_THROW(policy_named({}, "fast"), Error);
}

TEST(Policies, are_refused_with_file_policy_and_key) {
  EXPECT_THAT(refusal("[]"), HasSubstr("/etc/godwit.json must be a JSON object"));
  EXPECT_THAT(refusal(R"({"policy": {}})"), HasSubstr("/etc/godwit.json: unknown member 'policy'"));
  EXPECT_THAT(refusal(R"({"policies": []})"), HasSubstr("'policies' must be an object"));
  EXPECT_THAT(refusal(R"({"policies": {"a b": {}}})"), HasSubstr("/etc/godwit.json: policy 'a b' is no name"));
  EXPECT_THAT(refusal(R"({"policies": {"x": 7}})"), HasSubstr("/etc/godwit.json: policy x must be a JSON object"));
  EXPECT_THAT(refusal(R"({"policies": {"x": {"downtime": 7}}})"),
              HasSubstr("/etc/godwit.json: policy x: unknown member 'downtime'"));
  EXPECT_THAT(refusal(R"({"policies": {"x": {"downtime_ms": -7}}})"),
              HasSubstr("policy x: 'downtime_ms' must be a number from 1 to"));
  EXPECT_THAT(refusal(R"({"policies": {"x": {"on_no_progress": "pray"}}})"), HasSubstr("policy x: 'on_no_progress'"));
  EXPECT_THAT(refusal(R"({"policies": {"x": {"if_lost": "pray"}}})"), HasSubstr("policy x: 'if_lost' must be 'auto'"));
  for (const char* probe : {"-1", "11", "true"})
    EXPECT_THAT(refusal(fmt::format(R"({{"policies": {{"x": {{"probe_s": {}}}}}}})", probe)),
                HasSubstr("policy x: 'probe_s' must be a number from 0 to 10"));
  for (const char* steps : {"[]", "80", "[0]", "[100]", "[50.5]", "[-1]"})
    EXPECT_THAT(refusal(fmt::format(R"({{"policies": {{"x": {{"throttle_steps": {}}}}}}})", steps)),
                HasSubstr("policy x: 'throttle_steps' must be an array of 1 to 20 whole numbers from 1 to 99"));
  EXPECT_THAT(refusal(R"({"policies": {"x": {"throttle_steps": [60, 60]}}})"), HasSubstr("must fall"));
  EXPECT_EQ(refusal("{}"), "accepted");
}

json redis_to_b(const json& more = json::object()) {
  json body{{"workload", "redis"}, {"to", "b"}};
  body.update(more);
  return body;
}

TEST(Policies, are_taken_by_name_and_overridden_by_single_values) {
  const MigrationSpec spec = spec_from_json(redis_to_b({{"policy", "gentle"}, {"downtime_ms", 20}}), &two);
  EXPECT_EQ(spec.policy_name, "gentle");
  EXPECT_EQ(spec.policy.downtime, 20ms);
  EXPECT_EQ(spec.policy.max_rounds, 50u);
  EXPECT_EQ(spec.rate_limit, 12'500'000u);
  EXPECT_EQ(spec_from_json(redis_to_b(), &two).policy.max_rounds, 30u);
}

TEST(Policies, are_journaled_with_their_values_so_that_the_name_may_go) {
  const MigrationSpec spec = spec_from_json(redis_to_b({{"policy", "gentle"}}), &two);
  const MigrationSpec read = spec_from_json(to_json(spec));
  EXPECT_EQ(read.policy_name, "gentle");
  EXPECT_EQ(read.policy.downtime, 100ms);
  EXPECT_EQ(read.policy.max_total_time, 600s);
  EXPECT_THAT(read.policy.throttle_steps, testing::ElementsAre(70u, 30u));
  EXPECT_EQ(read.rate_limit, 12'500'000u);
  EXPECT_EQ(read.policy.if_lost, IfLost::hold);
  const Policies none;
  EXPECT_THROW(spec_from_json(redis_to_b({{"policy", "gentle"}}), &none), Error);
  EXPECT_THROW(spec_from_json(redis_to_b({{"policy", "../x"}})), Error);
}

}  // namespace
}  // namespace godwit::coordinator
