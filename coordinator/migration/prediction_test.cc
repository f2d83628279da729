// What a pause is foretold to take, from rounds that are written down here.
#include "coordinator/migration/policy.h"

#include "coordinator/migration/sample_rounds.h"

#include <gtest/gtest.h>

namespace godwit::coordinator {
namespace {

using namespace std::chrono_literals;

auto near(std::chrono::nanoseconds t) { return std::chrono::round<std::chrono::milliseconds>(t); }
double expected_s(const Measurements& measured) {
  return std::chrono::duration<double>(expect_downtime(measured)).count();
}

TEST(Prediction, expects_what_is_written_while_the_source_catches_up) {
  // 20 MiB are dirty, which takes 40 ms to send; what is written meanwhile takes a fifth of that, and so on. At last
  // what is written while a round does nothing but look.
  const auto bytes = static_cast<std::uint64_t>(100 * mib);
  Measurements measured{.rounds = {{.bytes = bytes, .seconds = 0.2, .dirty_bytes_after = bytes / 5}}, .overhead = 30ms};
  EXPECT_EQ(near(predict_downtime(measured)), 70ms);
  EXPECT_EQ(near(expect_downtime(measured)), 31ms);
  EXPECT_EQ(near(decide(measured, {.max_rounds = 1}).predicted_downtime), 31ms);
  measured.pauses = {{.overhead = 50ms, .bytes = 0}};
  EXPECT_EQ(near(expect_downtime(measured)), 51ms) << "what is told is what is usual";
  EXPECT_EQ(near(predict_downtime(measured)), 70ms) << "what is decided by is the least";
}

TEST(Prediction, expects_the_pause_of_those_that_had_about_as_much_to_move) {
  const auto bytes = static_cast<std::uint64_t>(100 * mib), page = std::uint64_t{4096};
  Measurements measured{.rounds = {{.bytes = bytes, .seconds = 0.1, .dirty_bytes_after = page}}, .overhead = 5ms};
  measured.pauses = {{.overhead = 40ms, .bytes = bytes / 2},
                     {.overhead = 50ms, .bytes = bytes},
                     {.overhead = 30ms, .bytes = bytes / 3}};
  EXPECT_EQ(near(expect_downtime(measured)), 40ms) << "nobody had as little: any of them";
  measured.pauses.push_back({.overhead = 12ms, .bytes = 100 * page});
  EXPECT_EQ(near(expect_downtime(measured)), 12ms);
}

TEST(Prediction, expects_the_pages_of_a_pause_to_go_as_fast_as_those_of_the_last_one) {
  // Measured at 100 Mbit/s: a client that fills the way to redis holds up what acknowledges pages, until the pause.
  const auto size = static_cast<std::uint64_t>(260 * mib);
  const auto round = [&](double seconds) {
    return RoundRecord{.bytes = size, .seconds = seconds, .dirty_bytes_after = size};
  };
  Measurements measured{.rounds = {round(23), round(70), round(70), round(70)}, .overhead = 30ms};
  EXPECT_NEAR(expected_s(measured), 70, 1);
  const std::vector<RoundRecord> before{round(23), round(27), round(27), round(22)};
  measured.pauses = {seen_pause(before, 22100ms, true)};
  EXPECT_NEAR(expected_s(measured), 22, 1);
  measured.rate_limit = size / 40;
  EXPECT_NEAR(expected_s(measured), 40, 1) << "no faster than allowed";
  measured.rate_limit = 0;
  measured.pauses = {seen_pause(before, 22100ms, false)};
  EXPECT_NEAR(expected_s(measured), 70, 1) << "over another path";
  measured.pauses = {seen_pause({round(4), round(3)}, 3s, true)};
  EXPECT_NEAR(expected_s(measured), 70, 1) << "the path has become another one";
}

TEST(Prediction, expects_all_that_is_dirty_when_catching_up_does_not_help) {
  const auto bytes = static_cast<std::uint64_t>(50 * mib);
  const RoundRecord round{.bytes = bytes, .seconds = 5, .dirty_bytes_after = bytes};
  const Measurements measured{.rounds = {round, round, round}, .overhead = 30ms};
  EXPECT_NEAR(expected_s(measured), 5, 0.2);
}

TEST(Prediction, believes_what_a_round_had_to_send_over_what_the_one_before_said) {
  // 4 MiB/s were told, but 6 MiB were there 0.6 s later: what is written between the count and the next round is due
  // too.
  const auto mebibytes = [](double n) { return static_cast<std::uint64_t>(n * mib); };
  const Measurements measured{.rounds = {{.bytes = mebibytes(6.6), .seconds = 0.6, .dirty_bytes_after = mebibytes(0.3)},
                                         {.bytes = mebibytes(6), .seconds = 0.54, .dirty_bytes_after = 0}},
                              .overhead = 30ms};
  EXPECT_GT(expect_downtime(measured), 200ms);
}

TEST(Prediction, expects_no_less_because_freezes_came_to_nothing) {
  // Measured: redis writes as fast as a path of 100 Mbit/s moves. Every second round is what a freeze sent ahead, twice
  // what a round sends in twice the time, and owes what it found.
  const Measurements measured{
      .rounds = {sent(7.22, 0.639, 0.21), sent(14.45, 1.277, 6.81), sent(6.98, 0.616, 2.44), sent(13.6, 1.201, 6.54),
                 sent(6.71, 0.592, 0.19), sent(13.49, 1.193, 6.6), sent(6.78, 0.598, 1.35)},
      .overhead = 30ms};
  EXPECT_NEAR(expected_s(measured), 0.62, 0.05);
}

TEST(Prediction, expects_the_usual_path_and_no_more_than_there_is_after_a_round_that_was_held_up) {
  // Measured, too: all of it is dirty again after each round, and the last one took three times as long.
  const Measurements measured{
      .rounds = {sent(294, 33.4, 258), sent(277, 28.8, 253), sent(274, 26.2, 249), sent(273, 74.3, 266)},
      .overhead = 30ms};
  EXPECT_NEAR(expected_s(measured), 30, 2);
}

TEST(Prediction, predicts_a_stop_and_copy_by_the_size_and_what_the_path_carried) {
  const Measurements measured{.overhead = 30ms, .resident_bytes = 500'000'000, .expected_rate = 1e9};
  EXPECT_EQ(decide(measured, {.max_rounds = 0}).predicted_downtime, 530ms);
  Measurements limited = measured;
  limited.rate_limit = 100'000'000;
  EXPECT_EQ(decide(limited, {.max_rounds = 0}).predicted_downtime, 5030ms);
  EXPECT_EQ(decide({.overhead = 30ms}, {.max_rounds = 0}).predicted_downtime, 0ms) << "not known";
}

TEST(Prediction, expects_no_more_than_the_rate_that_is_allowed_now) {
  Measurements measured{.rounds = {{.bytes = 1000u << 20, .seconds = 1, .dirty_bytes_after = 100u << 20}}};
  EXPECT_EQ(near(predict_downtime(measured)), 100ms);
  measured.rate_limit = 100u << 20;
  EXPECT_EQ(predict_downtime(measured), 1s);
  EXPECT_EQ(most_bytes_within(measured, 500ms), 50u << 20);
  measured.rate_limit = 2000u << 20;
  EXPECT_EQ(near(predict_downtime(measured)), 100ms);
}

}  // namespace
}  // namespace godwit::coordinator
