#include "agent/transfer/in_flight.h"

#include <gtest/gtest.h>

namespace godwit::transfer {
namespace {

TEST(InFlight, counts_only_what_all_streams_have_done) {
  InFlight frames(2);
  frames.add(0, 1);
  frames.add(1, 2);
  frames.add(0, 3);
  EXPECT_TRUE(frames.done(0, 3));
  EXPECT_EQ(frames.take_first(), 1u);
  EXPECT_EQ(frames.take_first(), std::nullopt);  // 2 is missing, 3 waits behind it
  EXPECT_TRUE(frames.done(1, 2));
  EXPECT_EQ(frames.take_first(), 2u);
  EXPECT_EQ(frames.take_first(), 3u);
  EXPECT_TRUE(frames.empty());
}

TEST(InFlight, notices_a_stream_that_claims_more_than_it_was_given) {
  InFlight frames(2);
  frames.add(0, 1);
  EXPECT_FALSE(frames.done(1, 1));
  EXPECT_FALSE(frames.done(0, 2));
}

}  // namespace
}  // namespace godwit::transfer
