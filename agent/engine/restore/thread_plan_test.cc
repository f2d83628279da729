#include "agent/engine/restore/thread_plan.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

namespace godwit::engine {
namespace {

using tasks::filters::Chain;

// What each thread has in the end, every filter of which is an object of its own.
struct Made {
  std::vector<Chain> chains;
  std::vector<std::vector<int>> objects;
};

Made carry_out(const std::vector<ThreadStep>& plan, std::size_t threads) {
  Made made{.chains = std::vector<Chain>(threads), .objects = std::vector<std::vector<int>>(threads)};
  std::set<std::size_t> there{0};
  int objects = 0;
  for (const ThreadStep& step : plan) {
    EXPECT_TRUE(there.contains(step.maker));
    for (const std::size_t thread : step.made) {
      EXPECT_TRUE(there.insert(thread).second) << "thread " << thread << " is made twice";
      made.chains[thread] = made.chains[step.maker];
      made.objects[thread] = made.objects[step.maker];
    }
    if (!step.adds) continue;
    made.chains[step.maker].push_back(*step.adds);
    made.objects[step.maker].push_back(objects++);
  }
  EXPECT_EQ(there.size(), threads);
  return made;
}

void expect_shared(const std::vector<Chain>& chains) {
  const Made made = carry_out(plan_threads(chains), chains.size());
  EXPECT_EQ(made.chains, chains);
  std::map<std::uint32_t, std::set<int>> objects;  // by filter
  for (std::size_t i = 0; i < chains.size(); i++)
    for (std::size_t k = 0; k < chains[i].size(); k++) objects[chains[i][k]].insert(made.objects[i][k]);
  for (const auto& [filter, of] : objects) EXPECT_EQ(of.size(), 1u) << "filter " << filter;
}

TEST(ThreadPlan, without_filters_the_first_one_makes_all_at_once) {
  const std::vector<Chain> chains(4);
  EXPECT_EQ(plan_threads(chains), (std::vector<ThreadStep>{{.maker = 0, .made = {1, 2, 3}, .adds = {}}}));
  EXPECT_TRUE(plan_threads(std::vector<Chain>(1)).empty());
}

TEST(ThreadPlan, threads_with_the_same_filters_are_made_by_one_that_has_them) {
  const std::vector<Chain> chains(3, Chain{7, 8});
  EXPECT_EQ(plan_threads(chains), (std::vector<ThreadStep>{{.maker = 0, .made = {}, .adds = 7},
                                                           {.maker = 0, .made = {}, .adds = 8},
                                                           {.maker = 0, .made = {1, 2}, .adds = {}}}));
}

TEST(ThreadPlan, what_is_shared_is_installed_once) {
  expect_shared({{}, {1}, {1, 2}, {1, 2}, {1, 3}, {4, 5}, {4}, {}});
  expect_shared({{1, 2, 3}, {1}, {}, {1, 2}, {1, 2, 4}, {1, 2, 4, 5}, {6}});
  expect_shared({{1}, {2}, {3}, {2}, {3}, {1}});
}

}  // namespace
}  // namespace godwit::engine
