#include "coordinator/registry/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit::coordinator {
namespace {

using testing::HasSubstr;

api::WorkloadInfo workload(const std::string& name, const std::string& state = "running") {
  api::WorkloadInfo w;
  w.set_name(name);
  w.set_id("run-1.1");
  w.set_state(state);
  return w;
}

api::Register hello(const std::string& node, std::vector<api::WorkloadInfo> workloads = {}) {
  api::Register r;
  r.set_version(control_version);
  r.set_node(node);
  for (const api::WorkloadInfo& w : workloads) *r.add_workloads() = w;
  return r;
}

Errc code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.errc();
  }
  return Errc{};
}

class RegistryTest : public testing::Test {
 protected:
  Store store{":memory:"};
  Registry registry{store};

  void up(const std::string& node, std::vector<api::WorkloadInfo> workloads = {}) {
    registry.connected({"agent", node}, hello(node, std::move(workloads)), nullptr);
  }
};

TEST_F(RegistryTest, takes_an_agent_only_under_the_name_of_its_certificate) {
  EXPECT_EQ(code_of([&] { registry.connected({"agent", "b"}, hello("a"), nullptr); }), Errc::denied);
  EXPECT_EQ(code_of([&] { registry.connected({"operator", "a"}, hello("a"), nullptr); }), Errc::denied);
  EXPECT_EQ(code_of([&] { registry.connected({"coordinator", ""}, hello("a"), nullptr); }), Errc::denied);
  EXPECT_TRUE(registry.nodes().empty());
}

TEST_F(RegistryTest, refuses_another_version_and_names_that_are_none) {
  api::Register other = hello("a");
  other.set_version(control_version + 1);
  EXPECT_EQ(code_of([&] { registry.connected({"agent", "a"}, other, nullptr); }), Errc::protocol);
  EXPECT_EQ(code_of([&] { registry.connected({"agent", "../a"}, hello("../a"), nullptr); }), Errc::invalid_argument);
}

TEST_F(RegistryTest, finds_a_workload_and_says_why_not) {
  up("a", {workload("redis"), workload("old", "exited")});
  up("b", {workload("twin")});
  up("c", {workload("twin")});
  EXPECT_EQ(registry.find("redis").node, "a");
  EXPECT_EQ(code_of([&] { registry.find("nobody"); }), Errc::not_found);
  EXPECT_EQ(code_of([&] { registry.find("redis", "b"); }), Errc::not_found);
  EXPECT_EQ(code_of([&] { registry.find("redis", "nowhere"); }), Errc::not_found);
  EXPECT_EQ(code_of([&] { registry.find("old"); }), Errc::target_gone);
  EXPECT_EQ(code_of([&] { registry.find("twin"); }), Errc::already_exists);
  EXPECT_EQ(registry.find("twin", "c").node, "c");
}

TEST_F(RegistryTest, prefers_the_running_copy_to_the_held_one) {
  up("a", {workload("redis", "frozen")});
  up("b", {workload("redis")});
  EXPECT_EQ(registry.find("redis").node, "b");
}

TEST_F(RegistryTest, remembers_where_a_workload_was_when_its_node_is_lost) {
  up("a", {workload("redis")});
  EXPECT_TRUE(registry.lost("a", nullptr));
  EXPECT_EQ(registry.workloads().at(0).state, "unknown");
  EXPECT_EQ(code_of([&] { registry.find("redis"); }), Errc::peer_lost);
  EXPECT_EQ(code_of([&] { registry.channel("a"); }), Errc::peer_lost);

  const Registry after_restart(store);
  EXPECT_EQ(after_restart.workloads().at(0).node, "a");
  EXPECT_FALSE(after_restart.node("a").up);
}

TEST_F(RegistryTest, forgets_what_a_returning_agent_no_longer_has) {
  up("a", {workload("redis"), workload("cache")});
  up("a", {workload("cache")});
  ASSERT_EQ(registry.workloads().size(), 1u);
  EXPECT_EQ(registry.workloads()[0].info.name(), "cache");
  EXPECT_EQ(store.placements().size(), 1u);
}

TEST_F(RegistryTest, keeps_a_node_cordoned_over_restarts_and_reconnections) {
  up("a");
  registry.check_not_cordoned("a");
  registry.cordon("a", "ann");
  registry.cordon("a", "bob");
  EXPECT_EQ(code_of([&] { registry.check_not_cordoned("a"); }), Errc::refused);
  up("a");
  EXPECT_EQ(registry.node("a").cordon->by, "ann");

  Registry after_restart(store);
  EXPECT_FALSE(after_restart.node("a").up);
  EXPECT_EQ(after_restart.node("a").cordon->by, "ann");
  after_restart.uncordon("a");
  after_restart.uncordon("a");
  after_restart.check_not_cordoned("a");
  EXPECT_TRUE(store.cordons().empty());
  EXPECT_EQ(code_of([&] { registry.cordon("nowhere", "ann"); }), Errc::not_found);
  EXPECT_EQ(code_of([&] { registry.uncordon("nowhere"); }), Errc::not_found);
}

TEST_F(RegistryTest, learns_how_much_memory_is_free_with_every_look) {
  api::Register r = hello("a");
  r.set_memory_available(100);
  registry.connected({"agent", "a"}, r, nullptr);
  api::WorkloadList list;
  registry.replace("a", list);
  EXPECT_EQ(registry.node("a").info.memory_available(), 100u) << "an agent that does not say";
  list.set_memory_available(70);
  registry.replace("a", list);
  EXPECT_EQ(registry.node("a").info.memory_available(), 70u);
}

TEST_F(RegistryTest, lists_the_known_nodes_when_one_is_unknown) {
  up("a");
  up("b");
  try {
    registry.node("c");
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.hint(), HasSubstr("a, b"));
  }
}

}  // namespace
}  // namespace godwit::coordinator
