#include "agent/engine/numa/policy_text.h"

#include <gtest/gtest.h>
#include <linux/mempolicy.h>

namespace godwit::engine::numa {
namespace {

TEST(PolicyText, is_found_in_a_line_of_numa_maps) {
  EXPECT_EQ(shown_policy("55933e520000 default file=/bin/true mapped=1 N0=1"), default_policy);
  EXPECT_EQ(shown_policy("55933e520000 default\n55933e530000 bind:0"), default_policy);
  EXPECT_EQ(shown_policy("55933e520000 bind:0-1 anon=1"), "bind:0-1");
  EXPECT_EQ(shown_policy("55933e520000 prefer (many)=balancing:0 heap anon=1"), "prefer (many)=balancing:0");
  EXPECT_EQ(shown_policy("55933e520000 weighted interleave:0,2"), "weighted interleave:0,2");
  EXPECT_EQ(shown_policy("55933e520000 prefer:1 (many)"), "prefer:1");
  EXPECT_EQ(shown_policy("55933e520000"), "");
}

TEST(PolicyText, says_mode_flags_and_nodes) {
  for (const auto& [text, mode, nodes] : std::initializer_list<std::tuple<const char*, unsigned, Nodes>>{
           {"local", MPOL_LOCAL, {}},
           {"prefer:3", MPOL_PREFERRED, {3}},
           {"bind:0-1,4", MPOL_BIND, {0, 1, 4}},
           {"bind=static|balancing:0", MPOL_BIND | MPOL_F_STATIC_NODES | MPOL_F_NUMA_BALANCING, {0}},
           {"interleave=relative:0-2", MPOL_INTERLEAVE | MPOL_F_RELATIVE_NODES, {0, 1, 2}},
           {"prefer (many):1023", MPOL_PREFERRED_MANY, {1023}},
           {"weighted interleave:0", 6, {0}}}) {
    const auto policy = parse_policy(text);
    ASSERT_TRUE(policy) << text;
    EXPECT_EQ(policy->mode(), mode) << text;
    EXPECT_EQ(Nodes(policy->nodes().begin(), policy->nodes().end()), nodes) << text;
    EXPECT_EQ(to_text(*policy), text);
  }
}

TEST(PolicyText, of_another_kind_is_no_policy) {
  for (const char* text : {"", "default", "unknown", "bind=sticky:0", "bind:x", "bind:0-", "bind:2-1", "bind:1024"})
    EXPECT_FALSE(parse_policy(text)) << text;
}

// The kernel has 64 bytes for it.
TEST(PolicyText, that_was_cut_off_is_without_its_last_nodes) {
  const std::string text = "bind:0,2,4,6,8,10,12,14,16,18,20,22,24,26,28,30,32,34,36,38,400,402";
  ASSERT_GE(text.size(), 63u);
  const auto policy = parse_policy(text.substr(0, 63));
  ASSERT_TRUE(policy);
  EXPECT_EQ(*policy->nodes().rbegin(), 38u);
}

}  // namespace
}  // namespace godwit::engine::numa
