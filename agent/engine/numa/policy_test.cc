#include "agent/engine/numa/policy.h"

#include "common/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <unistd.h>

namespace godwit::engine::numa {
namespace {

using ::testing::HasSubstr;
using ::testing::Optional;

Policy policy(std::uint32_t mode, std::initializer_list<std::uint32_t> nodes) {
  Policy p;
  p.set_mode(mode);
  p.mutable_nodes()->Add(nodes.begin(), nodes.end());
  return p;
}

constexpr std::uint32_t beyond = 1000;  // a node that no machine has

TEST(Policy, of_an_image_may_be_none) {
  EXPECT_TRUE(valid(policy(MPOL_BIND | MPOL_F_STATIC_NODES | MPOL_F_NUMA_BALANCING, {0, 7, 1023})));
  EXPECT_TRUE(valid(policy(MPOL_LOCAL, {})));
  EXPECT_FALSE(valid(policy(MPOL_DEFAULT, {})));
  EXPECT_FALSE(valid(policy(7, {0})));
  EXPECT_FALSE(valid(policy(MPOL_BIND | 1 << 12, {0})));
  EXPECT_FALSE(valid(policy(MPOL_BIND | MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES, {0})));
  EXPECT_FALSE(valid(policy(MPOL_BIND, {1024})));
  EXPECT_FALSE(valid(policy(MPOL_BIND, {1, 0})));
  EXPECT_FALSE(valid(policy(MPOL_BIND, {1, 1})));
}

class PolicyHere : public ::testing::Test {
 protected:
  void SetUp() override {
    if (here_.empty()) GTEST_SKIP() << "this kernel has no NUMA";
  }
  const Nodes here_ = usable_nodes(::getpid());
  const std::uint32_t first_ = here_.empty() ? 0 : *here_.begin();
};

TEST_F(PolicyHere, can_be_had_with_nodes_that_are_here) {
  EXPECT_EQ(lacking(policy(MPOL_BIND, {first_}), here_), std::nullopt);
  EXPECT_EQ(lacking(policy(MPOL_LOCAL, {}), here_), std::nullopt);
}

// The kernel takes it as it is without those.
TEST_F(PolicyHere, needs_all_of_its_nodes) {
  EXPECT_THAT(lacking(policy(MPOL_INTERLEAVE, {first_, beyond}), here_), Optional(HasSubstr("NUMA node 1000, which")));
  EXPECT_THAT(lacking(policy(MPOL_PREFERRED, {beyond, beyond + 1}), here_),
              Optional(HasSubstr("NUMA nodes 1000-1001")));
}

TEST_F(PolicyHere, keeps_nodes_that_are_not_here_if_it_is_static_or_relative) {
  EXPECT_EQ(lacking(policy(MPOL_BIND | MPOL_F_STATIC_NODES, {first_, beyond}), here_), std::nullopt);
  EXPECT_EQ(lacking(policy(MPOL_BIND | MPOL_F_RELATIVE_NODES, {beyond}), here_), std::nullopt);
  EXPECT_THAT(lacking(policy(MPOL_BIND | MPOL_F_STATIC_NODES, {beyond}), here_), Optional(HasSubstr("not here")));
}

TEST_F(PolicyHere, that_the_kernel_does_not_take_is_lacking) {
  EXPECT_THAT(lacking(policy(MPOL_INTERLEAVE | MPOL_F_NUMA_BALANCING, {first_}), here_),
              Optional(HasSubstr("does not take a NUMA memory policy: interleave=balancing")));
}

TEST_F(PolicyHere, shown_with_nodes_of_another_host_may_be_had_if_it_is_static_or_relative) {
  EXPECT_EQ(lacking_as_shown(policy(MPOL_BIND | MPOL_F_STATIC_NODES, {beyond}), here_), std::nullopt);
  EXPECT_NE(lacking_as_shown(policy(MPOL_BIND, {beyond}), here_), std::nullopt);
}

TEST(Policy, cannot_be_had_in_a_kernel_without) {
  EXPECT_THAT(lacking(policy(MPOL_LOCAL, {}), {}), Optional(HasSubstr("has no NUMA")));
}

TEST(Policy, is_required_by_its_code) {
  const auto code = [](const Policy& p) {
    try {
      Requirements(::getpid()).require(p);
    } catch (const Error& e) {
      return e.errc();
    }
    return Errc{};
  };
  EXPECT_EQ(code(policy(9, {})), Errc::image_corrupt);
  EXPECT_EQ(code(policy(MPOL_BIND, {beyond})), Errc::unsupported);
}

}  // namespace
}  // namespace godwit::engine::numa
