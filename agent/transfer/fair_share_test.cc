#include "agent/transfer/fair_share.h"

#include <gmock/gmock.h>

namespace godwit::transfer {
namespace {

using testing::ElementsAre;

TEST(FairShare, without_a_cap_each_has_its_own_limit) { EXPECT_THAT(fair_shares(0, {5, 0, 7}), ElementsAre(5, 0, 7)); }

TEST(FairShare, one_alone_gets_all_or_what_it_wants) {
  EXPECT_THAT(fair_shares(100, {0}), ElementsAre(100));
  EXPECT_THAT(fair_shares(100, {30}), ElementsAre(30));
  EXPECT_THAT(fair_shares(100, {300}), ElementsAre(100));
  EXPECT_THAT(fair_shares(100, {}), ElementsAre());
}

TEST(FairShare, what_one_does_not_want_goes_to_the_others) {
  EXPECT_THAT(fair_shares(90, {0, 0, 0}), ElementsAre(30, 30, 30));
  EXPECT_THAT(fair_shares(90, {0, 10, 0}), ElementsAre(40, 10, 40));
  EXPECT_THAT(fair_shares(90, {50, 10, 0}), ElementsAre(40, 10, 40));
  EXPECT_THAT(fair_shares(90, {20, 10, 0}), ElementsAre(20, 10, 60));
}

TEST(FairShare, nobody_is_given_no_limit_because_there_is_nothing_left) {
  EXPECT_THAT(fair_shares(2, {0, 0, 0}), ElementsAre(1, 1, 1));
  EXPECT_THAT(fair_shares(1, {1, 5}), ElementsAre(1, 1));
}

}  // namespace
}  // namespace godwit::transfer
