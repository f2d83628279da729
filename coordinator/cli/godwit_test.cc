// The program itself: `godwit` against a coordinator with two fake agents, exit code by exit code.
#include "coordinator/migration/json.h"
#include "coordinator/testing/child.h"
#include "coordinator/testing/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

namespace godwit::coordinator {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

// A round that hangs does so for longer than it takes to start a program or two.
Limits patient_limits() {
  Limits limits = short_limits();
  limits.stall = std::chrono::seconds(60);
  return limits;
}

class Godwit : public testing::Test {
 protected:
  Cluster c{patient_limits()};

  Child start(std::vector<std::string> arguments, const std::string& who = "operator/ann") {
    return Child(GODWIT_BINARY, std::move(arguments),
                 {"GODWIT_COORDINATOR=" + net::to_string(c.daemon.api_address()),
                  "GODWIT_CERTS=" + shared_certs().node("spiffe://godwit/" + who)});
  }
  Ended end(Child& child) {
    c.until([&] { return child.ended(); }, std::chrono::seconds(30));
    return child.result();
  }
  Ended godwit(std::vector<std::string> arguments, const std::string& who = "operator/ann") {
    Child child = start(std::move(arguments), who);
    return end(child);
  }

  // One migration in its second round, which hangs.
  std::string migration_in_precopy() {
    const std::string id = c.daemon.driver.start(c.to_b());
    c.until([&] { return c.a.asked.size() > 0 && c.a.asked.back() == api::Envelope::kRound; });
    c.a.always[api::Envelope::kRound] = Fault::hang_before;
    c.until([&] { return std::ranges::count(c.a.asked, api::Envelope::kRound) > 1; });
    return id;
  }
};

TEST_F(Godwit, migrates_and_prints_progress_and_report) {
  const Ended e = godwit({"migrate", "redis", "--to", "b"});
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_THAT(e.out, HasSubstr("redis from a to b: done"));
  EXPECT_THAT(e.out, HasSubstr("downtime 40.0 ms"));
  EXPECT_THAT(e.out, HasSubstr("transit"));
  EXPECT_THAT(e.err, HasSubstr("round 0: "));
  EXPECT_THAT(e.err, Not(HasSubstr("\x1b"))) << "not a terminal";
  EXPECT_THAT(godwit({"history"}).out, HasSubstr("done"));
}

TEST_F(Godwit, prints_one_json_object_when_asked) {
  const Ended e = godwit({"migrate", "redis", "--to", "b", "--json", "--no-progress"});
  EXPECT_EQ(e.code, 0);
  EXPECT_EQ(e.err, "");
  const json report = json::parse(e.out);
  EXPECT_EQ(report["outcome"], "done");
  EXPECT_EQ(report["downtime_ms"], 40.0);
  double sum = 0;
  for (const auto& [step, ms] : report["downtime_steps_ms"].items()) sum += ms.get<double>();
  EXPECT_NEAR(sum, 40.0, 1e-6);
}

TEST_F(Godwit, ends_with_1_when_a_migration_was_rolled_back) {
  c.b.always[api::Envelope::kFinish] = Fault::refuse;
  const Ended e = godwit({"migrate", "redis", "--to", "b"});
  EXPECT_EQ(e.code, 1);
  EXPECT_THAT(e.out, HasSubstr("failed and rolled back"));
  EXPECT_THAT(e.out, HasSubstr("hint: ask another"));
}

TEST_F(Godwit, ends_with_2_on_a_bad_command_line) {
  EXPECT_EQ(godwit({"migrate", "redis"}).code, 2);
  EXPECT_EQ(godwit({"migrate", "redis", "--to", "a"}).code, 2) << "source and destination are the same";
}

TEST_F(Godwit, ends_with_3_when_refused) {
  c.a.survey_refusals = {"fd 7: a raw socket"};
  const Ended e = godwit({"migrate", "redis", "--to", "b"});
  EXPECT_EQ(e.code, 3);
  EXPECT_THAT(e.out, HasSubstr("fd 7: a raw socket"));
  const Ended nobody = godwit({"migrate", "nobody", "--to", "b", "--json"});
  EXPECT_EQ(nobody.code, 3);
  EXPECT_EQ(json::parse(nobody.out)["reason"]["code"], "not_found");
}

TEST_F(Godwit, ends_with_4_without_a_coordinator) {
  const Ended e = godwit({"--coordinator", "127.0.0.1:1", "ps"});
  EXPECT_EQ(e.code, 4);
  EXPECT_THAT(e.err, HasSubstr("hint:"));
}

TEST_F(Godwit, ends_with_5_when_the_outcome_is_unknown) {
  c.b.always[api::Envelope::kCommit] = Fault::break_after;
  c.b.reconnects = false;
  c.a.peer = nullptr;
  EXPECT_EQ(godwit({"migrate", "redis", "--to", "b"}).code, 5);
}

TEST_F(Godwit, ends_with_5_when_what_was_done_cannot_be_printed) {
  for (const char* nowhere : {">/dev/full", ">&-"}) {
    const auto unheard = [&](std::vector<std::string> arguments) {
      arguments.insert(arguments.begin(), {"-c", fmt::format("exec \"$0\" \"$@\" {}", nowhere), GODWIT_BINARY});
      Child child("/bin/sh", std::move(arguments),
                  {"GODWIT_COORDINATOR=" + net::to_string(c.daemon.api_address()),
                   "GODWIT_CERTS=" + shared_certs().node("spiffe://godwit/operator/ann")});
      return end(child);
    };
    const std::string node = c.a.runs("redis") ? "b" : "a";
    for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
             {"migrate", "redis", "--to", node, "--no-progress"},
             {"nodes"},
             {"ps", "--json"},
             {"policies"},
             {"history"},
             {"uncordon", "b"},
             {"evacuate", node, "--dry-run"},
             {"rate", "a", "--node", "0"},
             {"simulate", "--trace", GODWIT_SOURCE_DIR "/deploy/traces/redis-5000.json", "--bandwidth", "10Gbit"},
             {"--help"}}) {
      const Ended e = unheard(words);
      EXPECT_EQ(e.code, 5) << words[0] << nowhere << e.err;
      EXPECT_THAT(e.err, HasSubstr("standard output")) << words[0] << nowhere;
    }
    EXPECT_EQ(unheard({"migrate", "nobody", "--to", "b", "--json"}).code, 3) << "refused it is all the same";
    EXPECT_EQ(unheard({"cordon", "nowhere"}).err.find("standard output"), std::string::npos) << "there was nothing";
  }
  EXPECT_TRUE(c.a.runs("redis")) << "it went to b, and back";
}

TEST_F(Godwit, lists_starts_and_kills) {
  EXPECT_THAT(godwit({"nodes"}).out, HasSubstr("a     up"));
  const Ended started = godwit({"run", "--name", "w", "--on", "b", "--", "/bin/sleep", "9"});
  EXPECT_EQ(started.code, 0) << started.err;
  EXPECT_THAT(started.out, HasSubstr("w runs on b as PID 4242"));
  EXPECT_THAT(godwit({"ps"}).out, HasSubstr("/bin/sleep 9"));
  EXPECT_EQ(json::parse(godwit({"ps", "--json"}).out)["workloads"].size(), 2u);
  EXPECT_EQ(godwit({"kill", "w"}).code, 0);
  EXPECT_EQ(godwit({"kill", "w"}).code, 1);
}

TEST_F(Godwit, takes_a_named_policy_and_lists_those_that_there_are) {
  c.daemon.policies =
      policies_from_json(json::parse(R"({"policies": {"gentle": {"downtime_ms": 90, "max_rounds": 7}}})"), "test");
  const Ended listed = godwit({"policies"});
  EXPECT_EQ(listed.code, 0) << listed.err;
  EXPECT_THAT(listed.out, HasSubstr("gentle   90.0 ms"));
  EXPECT_EQ(json::parse(godwit({"policies", "--json"}).out)["policies"][0]["max_rounds"], 7);
  const Ended e = godwit({"migrate", "redis", "--to", "b", "--policy", "gentle", "--json"});
  EXPECT_EQ(e.code, 0) << e.err;
  const json report = json::parse(e.out);
  EXPECT_EQ(report["downtime_budget_ms"], 90.0);
  EXPECT_EQ(c.store.migration(report["migration"])->spec.policy.max_rounds, 7u);
  EXPECT_EQ(json::parse(godwit({"history", "redis", "--json"}).out)["migrations"][0]["policy"], "gentle");
  const Ended unknown = godwit({"migrate", "redis", "--to", "a", "--policy", "fast"});
  EXPECT_EQ(unknown.code, 3);
  EXPECT_THAT(unknown.err, HasSubstr("no policy 'fast'; there are gentle"));
  const Ended preview = godwit({"migrate", "redis", "--to", "a", "--policy", "gentle", "--dry-run", "--json"});
  EXPECT_EQ(preview.code, 0) << preview.err;
  EXPECT_EQ(json::parse(preview.out)["downtime_budget_ms"], 90.0);
  EXPECT_EQ(godwit({"evacuate", "b", "--policy", "gentle", "--dry-run"}).code, 0);
  const Ended evacuated = godwit({"evacuate", "b", "--policy", "gentle", "--json"});
  EXPECT_EQ(evacuated.code, 0) << evacuated.err;
  const std::string moved = json::parse(evacuated.out)["workloads"][0]["migration"];
  EXPECT_EQ(c.store.migration(moved)->spec.policy.max_rounds, 7u);
}

TEST_F(Godwit, simulates_without_coordinator_or_certificates) {
  const std::string traces = GODWIT_SOURCE_DIR "/deploy/traces/";
  const auto run = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "simulate");
    Child child(GODWIT_BINARY, std::move(arguments), {"GODWIT_COORDINATOR=127.0.0.1:1"});
    return end(child);
  };
  const Ended e = run({"--trace", traces + "redis-5000.json", "--bandwidth", "1Gbit", "--bandwidth", "10Gbit"});
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_THAT(e.out, HasSubstr("over 119.2 MiB/s (1000 Mbit/s)"));
  EXPECT_THAT(e.out, HasSubstr("another round: "));
  EXPECT_THAT(e.out, HasSubstr("predicted downtime "));
  const Ended never = run({"--trace", traces + "never-converges.json", "--bandwidth", "1Gbit", "--json"});
  EXPECT_EQ(never.code, 3);
  const json told = json::parse(never.out);
  EXPECT_EQ(told["simulations"][0]["decision"], "give_up");
  EXPECT_THAT(told["simulations"][0]["reason"].get<std::string>(), HasSubstr("cannot be met"));
  const Ended missing = run({"--trace", "/nonexistent", "--bandwidth", "1Gbit"});
  EXPECT_EQ(missing.code, 1);
  EXPECT_THAT(missing.err, HasSubstr("/nonexistent"));
  EXPECT_EQ(run({"--trace", traces + "README.md", "--bandwidth", "1Gbit"}).code, 2);

  char name[] = "/tmp/godwit-config-XXXXXX";
  const std::string directory = ::mkdtemp(name), config = directory + "/c.json";
  std::ofstream(config) << R"({"policies": {"now": {"max_rounds": 0}, "never": {"downtime_ms": 1}}})";
  const std::vector<std::string> with_config{
      "--trace", traces + "redis-5000.json", "--bandwidth", "1Gbit", "--config", config, "--json", "--policy"};
  const auto under = [&](const char* policy, std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = with_config;
    arguments.push_back(policy);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(std::move(arguments));
  };
  EXPECT_TRUE(json::parse(under("now").out)["simulations"][0]["rounds"].empty());
  EXPECT_EQ(under("never").code, 3);
  EXPECT_EQ(under("never", {"--downtime", "300ms"}).code, 0) << "a single option overrides";
  EXPECT_THAT(under("fast").err, HasSubstr("no policy 'fast'; there are never, now"));
  std::filesystem::remove_all(directory);
}

TEST_F(Godwit, cordons_and_uncordons) {
  EXPECT_THAT(godwit({"cordon", "b"}).out, HasSubstr("b is cordoned"));
  EXPECT_THAT(godwit({"nodes"}).out, HasSubstr("b     up, cordoned"));
  const Ended moved = godwit({"migrate", "redis", "--to", "b"}),
              started = godwit({"run", "--name", "w", "--on", "b", "--", "x"});
  EXPECT_EQ(moved.code, 3);
  EXPECT_THAT(moved.err, HasSubstr("hint: `godwit uncordon b`"));
  EXPECT_EQ(started.code, 3);
  EXPECT_EQ(godwit({"cordon", "c"}).code, 1);
  EXPECT_EQ(json::parse(godwit({"uncordon", "b", "--json"}).out)["cordoned"], false);
  EXPECT_EQ(godwit({"migrate", "redis", "--to", "b"}).code, 0);
}

TEST_F(Godwit, shows_a_dry_run_and_ends_with_3_when_it_would_be_refused) {
  const Ended fine = godwit({"migrate", "redis", "--to", "b", "--dry-run"});
  EXPECT_EQ(fine.code, 0) << fine.err;
  EXPECT_THAT(fine.out, HasSubstr("redis from a to b: would move"));
  EXPECT_THAT(fine.out, HasSubstr("predicted: "));
  c.a.survey_refusals = {"fd 7: a raw socket"};
  c.b.check_refusals = {"PID 7 is taken here"};
  const Ended refused = godwit({"migrate", "redis", "--to", "b", "--dry-run"});
  EXPECT_EQ(refused.code, 3);
  EXPECT_THAT(refused.out, HasSubstr("fd 7: a raw socket"));
  EXPECT_THAT(refused.out, HasSubstr("PID 7 is taken here"));
  EXPECT_EQ(json::parse(godwit({"migrate", "redis", "--to", "b", "--dry-run", "--json"}).out)["obstacles"].size(), 2u);
  EXPECT_TRUE(c.store.migrations(1).empty());
}

TEST_F(Godwit, rehearses_and_ends_with_0) {
  const Ended e = godwit({"migrate", "redis", "--to", "b", "--rehearse"});
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_THAT(e.out, HasSubstr("redis from a to b: rehearsed"));
  EXPECT_THAT(e.out, HasSubstr("downtime would have been"));
  EXPECT_THAT(e.err, HasSubstr("stood still for"));
  EXPECT_TRUE(c.a.runs("redis"));
  c.b.always[api::Envelope::kFinish] = Fault::refuse;
  EXPECT_EQ(godwit({"migrate", "redis", "--to", "b", "--rehearse"}).code, 1);
}

TEST_F(Godwit, evacuates_a_node) {
  const Ended plan = godwit({"evacuate", "a", "--dry-run"});
  EXPECT_EQ(plan.code, 0) << plan.err;
  EXPECT_THAT(plan.out, HasSubstr("evacuating a: 1 workloads"));
  const Ended e = godwit({"evacuate", "a"});
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_THAT(e.err, HasSubstr("redis: moved to b"));
  EXPECT_THAT(e.out, HasSubstr("1 of 1 moved"));
  EXPECT_THAT(e.out, HasSubstr("a is empty"));
  EXPECT_THAT(e.out, HasSubstr("a stays cordoned"));
  EXPECT_TRUE(c.b.runs("redis"));
  const Ended nowhere = godwit({"evacuate", "b", "--json", "--no-progress"});
  EXPECT_EQ(nowhere.code, 1) << "the other one is cordoned";
  EXPECT_EQ(nowhere.err, "");
  EXPECT_EQ(json::parse(nowhere.out)["workloads"][0]["state"], "stays");
  EXPECT_EQ(godwit({"evacuate", "b", "--dry-run"}).code, 3);
  EXPECT_EQ(godwit({"evacuate", "x"}).code, 1);
}

TEST_F(Godwit, ends_an_evacuation_on_ctrl_c_and_on_cancel) {
  for (const char* how : {"ctrl-c", "cancel"}) {
    c.a.always[api::Envelope::kRound] = Fault::hang_before;
    c.a.asked.clear();
    Child evacuate = start({"evacuate", "a", "--json"});
    c.until([&] { return std::ranges::count(c.a.asked, api::Envelope::kRound) > 0; }, std::chrono::seconds(30));
    if (how == std::string("cancel")) {
      const Ended cancelled = godwit({"cancel", "a"}, "operator/bob");
      EXPECT_EQ(cancelled.code, 0) << cancelled.err;
      EXPECT_THAT(cancelled.out, HasSubstr("the evacuation of a is being ended"));
    } else {
      evacuate.signal(SIGINT);
    }
    const Ended e = end(evacuate);
    EXPECT_EQ(e.code, 1) << e.err;
    const json report = json::parse(e.out);
    EXPECT_EQ(report["cancelled_by"], how == std::string("cancel") ? "bob" : "ann");
    EXPECT_EQ(report["workloads"][0]["reason"]["code"], "cancelled");
    EXPECT_TRUE(c.a.runs("redis"));
  }
}

TEST_F(Godwit, watches_an_evacuation_to_its_end) {
  EXPECT_THAT(godwit({"watch", "a"}).err, HasSubstr("no migration 'a'")) << "none has begun";
  c.a.late_by = std::chrono::seconds(3);
  c.a.once[api::Envelope::kRound] = Fault::late;
  c.request({.method = "POST", .target = "/v1/nodes/a/evacuate", .body = "{}"});
  Child watch = start({"watch", "a"}, "operator/cid");
  c.until([&] { return watch.err().find("redis: moving to b") != std::string::npos; }, std::chrono::seconds(30));
  const Ended e = end(watch);
  EXPECT_EQ(e.code, 0) << e.err;
  EXPECT_THAT(e.err, HasSubstr("redis: moved to b"));
  EXPECT_THAT(e.out, HasSubstr("1 of 1 moved"));
  EXPECT_THAT(e.out, HasSubstr("a is empty"));
  const Ended later = godwit({"watch", "a", "--json", "--no-progress"});
  EXPECT_EQ(later.code, 0);
  EXPECT_EQ(json::parse(later.out)["state"], "ended") << "of one that has ended it tells the end";
}

// A second one follows what the first has begun, and an interrupt of the second is no word of the first's.
TEST_F(Godwit, leaves_an_evacuation_alone_that_it_only_watches) {
  c.a.always[api::Envelope::kRound] = Fault::hang_before;
  c.request({.method = "POST", .target = "/v1/nodes/a/evacuate", .body = "{}"});
  Child watch = start({"watch", "a"});
  c.until([&] { return watch.err().find("redis: moving to b") != std::string::npos; }, std::chrono::seconds(30));
  watch.signal(SIGINT);
  end(watch);
  const json report = json::parse(c.request({.target = "/v1/nodes/a/evacuation"}).body);
  EXPECT_EQ(report["state"], "moving");
  EXPECT_TRUE(report["cancelled_by"].is_null());
  c.request({.method = "POST", .target = "/v1/nodes/a/evacuation/cancel", .body = "{}"});
}

TEST_F(Godwit, cancels_a_migration_that_two_others_wait_for) {
  c.a.once[api::Envelope::kConnect] = Fault::hang_before;
  Child migrate = start({"migrate", "redis", "--to", "b"});
  c.until([&] { return std::ranges::count(c.a.asked, api::Envelope::kConnect) > 0; }, std::chrono::seconds(30));
  Child watch = start({"watch", "redis", "--json"}, "operator/cid");
  c.until([&] { return watch.err().find("connecting the nodes") != std::string::npos; }, std::chrono::seconds(30));
  const Ended cancelled = godwit({"cancel", "redis"}, "operator/bob");
  EXPECT_EQ(cancelled.code, 0) << cancelled.err;
  EXPECT_THAT(cancelled.out, HasSubstr("is being rolled back"));
  const Ended migrated = end(migrate), watched = end(watch);
  EXPECT_EQ(migrated.code, 1);
  EXPECT_THAT(migrated.out, HasSubstr("reason: cancelled by bob [cancelled]"));
  EXPECT_EQ(watched.code, 1);
  EXPECT_EQ(json::parse(watched.out)["outcome"], "rolled_back");
  const Ended again = godwit({"cancel", "redis"});
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.err, HasSubstr("no migration 'redis'"));
}

TEST_F(Godwit, watches_the_only_migration_from_its_middle) {
  const std::string id = migration_in_precopy();
  Child watch = start({"watch"});
  c.until([&] { return watch.err().find("round 0: ") != std::string::npos; }, std::chrono::seconds(30));
  EXPECT_EQ(json::parse(godwit({"cancel", id, "--json"}).out)["migration"], id);
  const Ended e = end(watch);
  EXPECT_EQ(e.code, 1);
  EXPECT_THAT(e.out, HasSubstr("redis from a to b: failed and rolled back"));
  EXPECT_THAT(e.out, HasSubstr("reason: cancelled by ann [cancelled]"));
  const Ended none = godwit({"watch"});
  EXPECT_EQ(none.code, 1);
  EXPECT_THAT(none.err, HasSubstr("no migration is under way"));
}

TEST_F(Godwit, watches_to_a_good_end_and_reports_one_that_has_ended) {
  c.b.once[api::Envelope::kCommit] = Fault::hang_after;
  const std::string id = c.daemon.driver.start(c.to_b());
  c.until([&] { return c.b.destination == api::DESTINATION_RESUMED; });
  const Ended late = godwit({"cancel", id});
  if (late.code != 0) EXPECT_THAT(late.err, testing::AnyOf(HasSubstr("too late"), HasSubstr("it is done")));
  EXPECT_EQ(late.code, 1);
  const Ended watched = godwit({"watch", id});
  EXPECT_EQ(watched.code, 0) << watched.err;
  EXPECT_THAT(watched.out, HasSubstr("redis from a to b: done"));
  EXPECT_THAT(watched.err, HasSubstr("predicted downtime"));
  EXPECT_EQ(godwit({"watch", id, "--no-progress"}).err, "");
}

TEST_F(Godwit, refuses_by_name_what_only_criu_has) {
  for (const char* command : {"exec", "lazy-pages", "service", "swrk"}) {
    const Ended refused = godwit({command, "-t", "1"});
    EXPECT_NE(refused.code, 0);
    EXPECT_THAT(refused.err, HasSubstr("'" + std::string(command) + "' is not there"));
    EXPECT_THAT(refused.err, HasSubstr("hint: "));
  }
}

TEST_F(Godwit, takes_options_in_front_of_the_command_as_criu_does) {
  const Ended restored = godwit({"-D", "/nonexistent", "-v1", "restore", "-d"});
  EXPECT_EQ(restored.code, 1);
  EXPECT_THAT(restored.err, HasSubstr("/nonexistent"));
  const Ended foreign = godwit({"--root", "/x", "-D", "/nonexistent", "dump", "-t", "1"});
  EXPECT_EQ(foreign.code, 2);
  EXPECT_THAT(foreign.err, HasSubstr("CRIU has --root, Godwit does not"));
  EXPECT_THAT(godwit({"-t", "1", "lazy-pages"}).err, HasSubstr("'lazy-pages' is not there"));
  EXPECT_EQ(godwit({"-v4", "-t", "1"}).code, 2) << "without a command";
}

TEST_F(Godwit, resolves_only_on_the_word_of_an_operator) {
  c.b.always[api::Envelope::kCommit] = Fault::break_before;
  c.b.reconnects = false;
  c.a.peer = nullptr;
  const std::string id = c.migrate().id;
  ASSERT_EQ(c.a.source, api::SOURCE_ARMED);
  const Ended asked = godwit({"resolve", "redis"});
  EXPECT_EQ(asked.code, 2);
  EXPECT_THAT(asked.err, HasSubstr("needs your word that the other one is off: powered off, or rebooted"));
  EXPECT_THAT(asked.err,
              HasSubstr("when node 'b' is off: godwit resolve redis --destination-is-off, and it runs on 'a'"));
  EXPECT_THAT(asked.err, HasSubstr("when node 'a' is off: godwit resolve redis --source-is-off, and it runs on 'b'"));
  EXPECT_TRUE(c.a.resolutions.empty());
  const Ended said = godwit({"resolve", "redis", "--destination-is-off"}, "operator/bob");
  EXPECT_EQ(said.code, 0) << said.err;
  EXPECT_THAT(said.out, HasSubstr("'redis' goes on on node 'a'"));
  ASSERT_EQ(c.a.resolutions.size(), 1u);
  EXPECT_EQ(c.a.resolutions[0].by(), "bob");
  c.until([&] { return c.store.migration(id)->phase == Phase::rolled_back; });
  const Ended again = godwit({"resolve", id, "--destination-is-off"});
  EXPECT_EQ(again.code, 1);
  EXPECT_THAT(again.err, HasSubstr("is not under way: it is rolled_back"));
  EXPECT_THAT(godwit({"resolve", "nobody", "--destination-is-off"}).err, HasSubstr("no migration 'nobody'"));
}

TEST_F(Godwit, resolves_a_migration_whose_source_is_off) {
  c.a.always[api::Envelope::kArm] = Fault::break_before;
  c.a.reconnects = false;
  const std::string id = c.migrate().id;
  ASSERT_EQ(c.b.destination, api::DESTINATION_PREPARED);
  c.until([&] { return !c.a.registered(); });
  EXPECT_EQ(godwit({"resolve", id, "--source-is-off", "--destination-is-off"}).code, 2) << "one of them goes on";
  const Ended said = godwit({"resolve", "redis", "--source-is-off"}, "operator/bob");
  EXPECT_EQ(said.code, 0) << said.err;
  EXPECT_THAT(said.out, HasSubstr("'redis' goes on on node 'b'; when node 'a' returns"));
  ASSERT_EQ(c.b.resolutions.size(), 1u);
  EXPECT_EQ(c.b.resolutions[0].by(), "bob");
  c.until([&] { return c.store.migration(id)->phase == Phase::done; });
}

TEST_F(Godwit, resolves_at_a_node_what_the_journal_does_not_know) {
  c.b.reconnects = false;
  c.b.stop();
  c.until([&] { return !c.daemon.registry.node("b").up; });
  c.a.source = api::SOURCE_ARMED;
  const Ended unknown = godwit({"resolve", "redis", "--destination-is-off"});
  EXPECT_EQ(unknown.code, 1);
  EXPECT_THAT(unknown.err, HasSubstr("--at NODE"));
  const Ended asked = godwit({"resolve", "redis", "--at", "a"});
  EXPECT_EQ(asked.code, 2) << "without a word";
  EXPECT_THAT(asked.err, HasSubstr("godwit resolve redis --destination-is-off --at a"));
  const Ended said = godwit({"resolve", "redis", "--destination-is-off", "--at", "a"}, "operator/bob");
  EXPECT_EQ(said.code, 0) << said.err;
  EXPECT_THAT(said.out, HasSubstr("'redis' goes on on node 'a'; when the other node returns"));
  ASSERT_EQ(c.a.resolutions.size(), 1u);
  EXPECT_EQ(c.a.resolutions[0].workload(), "redis");
}

TEST_F(Godwit, lets_a_workload_go_on_that_is_held_after_a_loss) {
  c.b.always[api::Envelope::kCommit] = Fault::hang_before;
  c.b.holds_after_loss = true;
  c.b.on_request = [&](api::Envelope::BodyCase body) {
    if (body == api::Envelope::kCommit) c.b.destination = api::DESTINATION_LOST;
  };
  const Ended moved = godwit({"migrate", "redis", "--to", "b", "--no-progress"});
  EXPECT_EQ(moved.code, 5) << moved.out;
  EXPECT_THAT(moved.out + moved.err, HasSubstr("--go-on"));
  const Ended said = godwit({"resolve", "redis", "--go-on"}, "operator/bob");
  EXPECT_EQ(said.code, 0) << said.err;
  EXPECT_THAT(said.out, HasSubstr("'redis' goes on on node 'a', from before what its copy on node 'b' has written"));
  ASSERT_EQ(c.a.resolutions.size(), 1u);
  EXPECT_TRUE(c.a.resolutions[0].go_on());
}

TEST_F(Godwit, reports_one_migration_of_the_history) {
  const std::string id = c.migrate().id;
  const Ended report = godwit({"history", id});
  EXPECT_EQ(report.code, 0);
  EXPECT_THAT(report.out, HasSubstr("redis from a to b: done"));
  EXPECT_THAT(report.out, HasSubstr("final"));
  EXPECT_THAT(report.out, HasSubstr("downtime 40.0 ms"));
  EXPECT_THAT(report.out, HasSubstr("transit"));
  const json whole = json::parse(godwit({"history", id, "--json"}).out);
  EXPECT_EQ(whole, coordinator::to_json(*c.store.migration(id)));
  EXPECT_THAT(godwit({"history", "redis"}).out, HasSubstr("MIGRATION"));
  EXPECT_EQ(json::parse(godwit({"history", "redis", "--json"}).out)["migrations"].size(), 1u);
  EXPECT_EQ(json::parse(godwit({"history", "other", "--json"}).out)["migrations"].size(), 0u);
}

TEST_F(Godwit, tells_an_agents_certificate_that_it_may_not) {
  const Ended e = godwit({"ps"}, "agent/a");
  EXPECT_EQ(e.code, 1);
  EXPECT_THAT(e.err, HasSubstr("may not use this API"));
}

}  // namespace
}  // namespace godwit::coordinator
