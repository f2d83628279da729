#include "agent/engine/resources/round_trip.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

namespace godwit::engine::resources {
namespace {

TEST(Eventfd, keeps_a_counter_above_32_bits) {
  const std::uint64_t counter = 0x1234567890abcdef;
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::eventfd(0, 0), 7);
                      check(::write(7, &counter, sizeof counter), "count");
                    },
                    [&] {
                      std::uint64_t found = 0;
                      ::read(7, &found, sizeof found);
                      return differs("counter", counter, found) << differs("flags", O_RDWR, ::fcntl(7, F_GETFL));
                    }));
}

TEST(Eventfd, stays_a_semaphore_and_does_not_block) {
  const std::uint64_t counter = 2;
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::eventfd(0, EFD_SEMAPHORE | EFD_NONBLOCK), 5);
                      check(::write(5, &counter, sizeof counter), "count");
                    },
                    [&] {
                      std::uint64_t found = 0;
                      std::string wrong;
                      for (int i = 0; i < 2; ++i) {
                        ::read(5, &found, sizeof found);
                        wrong += differs("one at a time", 1u, found);
                      }
                      return wrong << differs("empty", -1, ::read(5, &found, sizeof found))
                                   << differs("errno", EAGAIN, errno);
                    }));
}

TEST(Eventfd, can_be_full) {
  const std::uint64_t most = ~std::uint64_t{0} - 1;
  EXPECT_EQ("", round_trip(
                    [&] {
                      place(::eventfd(0, 0), 3);
                      check(::write(3, &most, sizeof most), "count");
                    },
                    [&] {
                      std::uint64_t found = 0;
                      ::read(3, &found, sizeof found);
                      return differs("counter", most, found);
                    }));
}

}  // namespace
}  // namespace godwit::engine::resources
