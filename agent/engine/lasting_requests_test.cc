#include "agent/engine/lasting_requests.h"

#include <gtest/gtest.h>

namespace godwit::engine {
namespace {

constexpr std::uint64_t second = 1'000'000'000;
const Error in_flight(Errc::busy, "requests are in flight");

void round(LastingRequests& requests, std::uint64_t now_ns, bool found) {
  requests.begin_round();
  if (found) requests.found(1, in_flight);
  requests.end_round(now_ns);
}

TEST(LastingRequests, are_refused_after_three_long_rounds) {
  LastingRequests requests;
  round(requests, 10 * second, true);
  round(requests, 20 * second, true);
  EXPECT_THROW(round(requests, 30 * second, true), Error);
}

TEST(LastingRequests, are_not_refused_for_many_short_rounds) {
  LastingRequests requests;
  for (std::uint64_t i = 0; i < 10; i++) round(requests, i * second, true);
  EXPECT_THROW(round(requests, 10 * second, true), Error);
}

TEST(LastingRequests, are_others_when_there_was_none_in_between) {
  LastingRequests requests;
  for (std::uint64_t i = 1; i < 10; i++) round(requests, 10 * i * second, i % 3 != 0);
}

TEST(LastingRequests, are_of_one_process) {
  LastingRequests requests;
  for (std::uint64_t i = 1; i < 10; i++) {
    requests.begin_round();
    requests.found(i % 2 == 0 ? 1 : 2, in_flight);
    requests.end_round(10 * i * second);
  }
}

}  // namespace
}  // namespace godwit::engine
