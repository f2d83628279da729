#include "agent/engine/restore/clock_offsets.h"

#include "common/base/error.h"

#include <gtest/gtest.h>

namespace godwit::engine {
namespace {

TEST(ClockOffsets, are_found_by_name) {
  const std::string text = "monotonic           5   999999999\nboottime          -2   500000000\n";
  EXPECT_EQ(clock_offset(text, "monotonic"), 5'999'999'999);
  EXPECT_EQ(clock_offset(text, "boottime"), -1'500'000'000);
  EXPECT_EQ(clock_offset("", "monotonic"), 0);
}

TEST(ClockOffsets, are_written_with_nanoseconds_that_are_not_negative) {
  EXPECT_EQ(clock_offset_line("monotonic", 5'999'999'999), "monotonic 5 999999999\n");
  EXPECT_EQ(clock_offset_line("boottime", -1'500'000'000), "boottime -2 500000000\n");
  EXPECT_EQ(clock_offset_line("boottime", -1'000'000'000), "boottime -1 0\n");
}

TEST(ClockOffsets, bring_a_clock_to_where_it_was) {
  EXPECT_EQ(clock_offset_for(100, 30, 5), 75);
  EXPECT_EQ(clock_offset_for(30, 100, 5), -65);
}

TEST(ClockOffsets, that_no_clock_can_have_are_an_error) {
  EXPECT_THROW(clock_offset("monotonic 9223372036854775807 0\n", "monotonic"), Error);
  EXPECT_THROW(clock_offset_for(~0ull, 1, 0), Error);
  EXPECT_THROW(clock_offset_for(INT64_MAX, 0, 1), Error);
}

}  // namespace
}  // namespace godwit::engine
