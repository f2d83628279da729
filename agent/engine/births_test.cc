#include "agent/engine/births.h"

#include <gmock/gmock.h>

namespace godwit::engine {
namespace {

using testing::ElementsAre;
using enum Birth;

TEST(Births, everybody_who_is_alone_is_born_with_an_object_of_his_own) {
  EXPECT_THAT(births_of(std::vector<Sharer>{{1, 0, 1}, {2, 1, 2}, {3, 2, 3}}), ElementsAre(anew, anew, anew));
}

TEST(Births, a_child_is_born_with_what_it_shares_with_its_parent) {
  EXPECT_THAT(births_of(std::vector<Sharer>{{1, 0, 1}, {2, 1, 1}, {3, 1, 3}}), ElementsAre(anew, with_makers, anew));
}

TEST(Births, two_pairs_of_one_tree_do_not_meet) {
  EXPECT_THAT(births_of(std::vector<Sharer>{{1, 0, 1}, {2, 1, 1}, {3, 1, 3}, {4, 3, 3}}),
              ElementsAre(anew, with_makers, anew, with_makers));
}

TEST(Births, who_stands_between_hands_it_down) {
  EXPECT_THAT(births_of(std::vector<Sharer>{{1, 0, 1}, {2, 1, 2}, {3, 2, 1}}),
              ElementsAre(anew, with_makers, with_makers));
}

TEST(Births, siblings_have_it_from_a_parent_who_has_left_it) {
  EXPECT_THAT(births_of(std::vector<Sharer>{{1, 0, 1}, {2, 1, 2}, {3, 1, 2}}),
              ElementsAre(anew, with_makers, with_makers));
}

TEST(Births, who_shares_another_one_hands_down_only_that) {
  EXPECT_THAT(births_of(std::vector<Sharer>{{1, 0, 1}, {2, 1, 2}, {3, 2, 1}, {4, 2, 2}}),
              ElementsAre(anew, anew, out_of_reach, with_makers));
}

TEST(Births, an_orphan_has_nothing_from_anybody) {
  EXPECT_THAT(births_of(std::vector<Sharer>{{1, 0, 1}, {2, 0, 1}}), ElementsAre(anew, out_of_reach));
}

}  // namespace
}  // namespace godwit::engine
