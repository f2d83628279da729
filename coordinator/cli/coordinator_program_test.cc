// The program itself: `godwit-coordinator` from start to SIGTERM.
#include "coordinator/testing/child.h"
#include "coordinator/testing/cluster.h"

#include <gtest/gtest.h>

#include <fstream>
#include <regex>

namespace godwit::coordinator {
namespace {

using nlohmann::json;

TEST(GodwitCoordinator, serves_and_ends_cleanly_on_sigterm) {
  char name[] = "/tmp/godwit-coordinator-XXXXXX";
  const std::string state = ::mkdtemp(name);
  {
    Child child(GODWIT_COORDINATOR_BINARY, {"--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--state", state},
                {"GODWIT_CERTS=" + shared_certs().node("spiffe://godwit/coordinator")});
    const auto wait_for = [&](const std::function<bool()>& what) {
      const Clock::time_point deadline = Clock::now() + std::chrono::seconds(20);
      while (!what() && Clock::now() < deadline) ::usleep(10'000);
      return what();
    };
    ASSERT_TRUE(wait_for([&] { return child.err().find("coordinator.ready") != std::string::npos; })) << child.err();
    child.signal(SIGTERM);
    ASSERT_TRUE(wait_for([&] { return child.ended(); }));
    EXPECT_EQ(child.result().code, 0) << child.result().err;
    EXPECT_TRUE(std::filesystem::exists(state + "/journal.db"));
  }
  std::filesystem::remove_all(state);
}

// In the line that says that it is ready, behind the one for agents.
std::string api_address_in(const std::string& log) {
  std::smatch found;
  const std::regex ready(R"(coordinator\.ready.*127\.0\.0\.1:\d+.*(127\.0\.0\.1:\d+))");
  return std::regex_search(log, found, ready) ? found[1].str() : "";
}

TEST(GodwitCoordinator, reads_its_policies_at_the_start_and_again_on_sighup) {
  char name[] = "/tmp/godwit-coordinator-XXXXXX";
  const std::string state = ::mkdtemp(name), config = state + "/config.json";
  const auto write = [&](const char* text) { std::ofstream(config) << text; };
  const auto start = [&] {
    return Child(GODWIT_COORDINATOR_BINARY,
                 {"--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--state", state, "--config", config},
                 {"GODWIT_CERTS=" + shared_certs().node("spiffe://godwit/coordinator")});
  };
  const auto says = [&](Child& child, const std::string& what) {
    const Clock::time_point deadline = Clock::now() + std::chrono::seconds(20);
    while (child.err().find(what) == std::string::npos && Clock::now() < deadline) ::usleep(10'000);
    return child.err().find(what) != std::string::npos;
  };
  {
    write(R"({"policies": {"gentle": {"downtime": 5}}})");
    Child child = start();
    EXPECT_TRUE(says(child, config + ": policy gentle: unknown member 'downtime'")) << child.err();
    while (!child.ended()) ::usleep(10'000);
    EXPECT_EQ(child.result().code, 2);
  }
  {
    write("{}");
    Child child = start();
    ASSERT_TRUE(says(child, "coordinator.ready")) << child.err();
    write(R"({"policies": {"a": {}, "b": {}}})");
    child.signal(SIGHUP);
    EXPECT_TRUE(says(child, "coordinator.reloaded")) << child.err();
    write("{");
    child.signal(SIGHUP);
    EXPECT_TRUE(says(child, "coordinator.reload_failed")) << child.err();
    write(R"({"policies": {"c": {"downtime_ms": 1e999}}})");
    child.signal(SIGHUP);
    EXPECT_TRUE(says(child, "1e999")) << child.err();
    Child list(GODWIT_BINARY, {"policies", "--json"},
               {"GODWIT_COORDINATOR=" + api_address_in(child.err()),
                "GODWIT_CERTS=" + shared_certs().node("spiffe://godwit/operator/ann")});
    while (!list.ended()) ::usleep(10'000);
    EXPECT_EQ(json::parse(list.result().out)["policies"].size(), 2u) << list.result().err;
    child.signal(SIGTERM);
    while (!child.ended()) ::usleep(10'000);
    EXPECT_EQ(child.result().code, 0) << "it goes on with what it had";
  }
  std::filesystem::remove_all(state);
}

TEST(GodwitCoordinator, refuses_to_run_with_another_role) {
  char name[] = "/tmp/godwit-coordinator-XXXXXX";
  const std::string state = ::mkdtemp(name);
  {
    Child child(GODWIT_COORDINATOR_BINARY,
                {"--state", state, "--certs", shared_certs().node("spiffe://godwit/agent/a")}, {});
    for (int i = 0; i < 1000 && !child.ended(); i++) ::usleep(10'000);
    EXPECT_EQ(child.result().code, 1);
  }
  std::filesystem::remove_all(state);
}

}  // namespace
}  // namespace godwit::coordinator
