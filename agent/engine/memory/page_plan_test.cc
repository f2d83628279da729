#include "agent/engine/memory/page_plan.h"

#include <gtest/gtest.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t page(std::uint64_t n) { return n * page_size; }

std::string text(const std::vector<PlannedRun>& plan) {
  std::string out;
  for (const PlannedRun& p : plan)
    out += std::to_string(p.run.address / page_size) + "+" + std::to_string(p.run.pages) +
           (p.offset ? "@" + std::to_string(*p.offset / page_size) : "^") + " ";
  return out;
}

TEST(PagePlan, the_later_page_stands) {
  const std::vector<Place> places = in_order({{{page(10), 4}, 0}, {{page(2), 2}, page(4)}, {{page(11), 2}, page(6)}});
  ASSERT_EQ(places.size(), 4u);
  EXPECT_EQ(places[0].run.address, page(2));
  EXPECT_EQ(places[1].run.pages, 1u);
  EXPECT_EQ(places[2].offset, page(6));
  EXPECT_EQ(places[3].offset, page(3));
}

TEST(PagePlan, what_came_and_what_the_parent_has_make_up_the_object) {
  PageSet held;
  held.add(page(1), page(20));
  held.remove(page(5), page(6));
  held.add(page(100), page(101));
  EXPECT_EQ(text(plan_runs({{{page(4), 4}, 0}, {{page(30), 1}, page(4)}}, held)), "1+3^ 4+1@0 6+2@2 8+12^ 100+1^ ");
  EXPECT_EQ(text(plan_runs({}, held)), "1+4^ 6+14^ 100+1^ ");
  EXPECT_EQ(text(plan_runs({{{page(4), 4}, 0}}, PageSet())), "");
}

}  // namespace
}  // namespace godwit::engine
