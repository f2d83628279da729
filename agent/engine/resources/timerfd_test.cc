#include "agent/engine/resources/round_trip.h"

#include <gtest/gtest.h>
#include <sys/timerfd.h>

namespace godwit::engine::resources {
namespace {

constexpr long ms = 1'000'000;

itimerspec spec_of(long value_ns, long interval_ns = 0) {
  return {.it_interval = {interval_ns / (1000 * ms), interval_ns % (1000 * ms)},
          .it_value = {value_ns / (1000 * ms), value_ns % (1000 * ms)}};
}

void sleep_ms(long n) {
  const timespec time{0, n * ms};
  ::nanosleep(&time, nullptr);
}

std::uint64_t ticks(int fd) {
  std::uint64_t value = 0;
  const std::string bytes = now_or_never(fd, sizeof value);
  if (bytes.size() == sizeof value) bytes.copy(reinterpret_cast<char*>(&value), sizeof value);
  return value;
}

TEST(Timerfd, goes_on_with_the_time_that_was_left) {
  EXPECT_EQ("", round_trip(
                    [] {
                      place(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), 4);
                      const itimerspec spec = spec_of(500'000 * ms, 3000 * ms);
                      check(::timerfd_settime(4, 0, &spec, nullptr), "arm");
                    },
                    [] {
                      itimerspec now{};
                      ::timerfd_gettime(4, &now);
                      return differs("left", true, now.it_value.tv_sec >= 495 && now.it_value.tv_sec < 500)
                             << differs("interval", 3, now.it_interval.tv_sec) << differs("ticks", 0u, ticks(4));
                    }));
}

TEST(Timerfd, keeps_expirations_that_were_not_read) {
  EXPECT_EQ("", round_trip(
                    [] {
                      place(::timerfd_create(CLOCK_MONOTONIC, 0), 4);
                      const itimerspec spec = spec_of(1 * ms);
                      check(::timerfd_settime(4, 0, &spec, nullptr), "arm");
                      place(::timerfd_create(CLOCK_BOOTTIME, 0), 5);
                      const itimerspec periodic = spec_of(1 * ms, 10'000 * ms);
                      check(::timerfd_settime(5, 0, &periodic, nullptr), "arm");
                      sleep_ms(20);
                    },
                    [] {
                      itimerspec now{};
                      std::string wrong = differs("one shot", 1u, ticks(4)) << differs("periodic", 1u, ticks(5));
                      ::timerfd_gettime(4, &now);
                      wrong += differs("disarmed", 0, now.it_value.tv_sec + now.it_value.tv_nsec);
                      ::timerfd_gettime(5, &now);
                      return wrong << differs("goes on", true, now.it_value.tv_sec == 9);
                    }));
}

TEST(Timerfd, counts_every_period_of_a_timer_nobody_looked_at) {
  const StoppedChild child([] {
    place(::timerfd_create(CLOCK_MONOTONIC, 0), 4);
    const itimerspec spec = spec_of(1 * ms, 10 * ms);
    check(::timerfd_settime(4, 0, &spec, nullptr), "arm");
    sleep_ms(60);
  });
  const Dumped dumped = dump_table(child);
  for (const auto& file : dumped.images.records<image::FileEntry>(image::Kind::files)) {
    if (file.type() == image::FD_TIMERFD) EXPECT_GE(file.tfd().ticks(), 5u);
  }
}

TEST(Timerfd, deadline_on_the_wall_clock_that_passed_meanwhile_fires_at_once) {
  Dumped dumped;
  {
    const StoppedChild child([] {
      place(::timerfd_create(CLOCK_REALTIME, 0), 4);
      itimerspec spec{};
      ::clock_gettime(CLOCK_REALTIME, &spec.it_value);
      spec.it_value.tv_nsec += 150 * ms;
      if (spec.it_value.tv_nsec >= 1000 * ms)
        spec.it_value = {spec.it_value.tv_sec + 1, spec.it_value.tv_nsec - 1000 * ms};
      check(::timerfd_settime(4, TFD_TIMER_ABSTIME, &spec, nullptr), "arm");
    });
    dumped = dump_table(child);
  }
  sleep_ms(200);
  EXPECT_EQ("", restore_and_verify(dumped, [] {
              sleep_ms(5);
              return differs("ticks", 1u, ticks(4));
            }));
}

}  // namespace
}  // namespace godwit::engine::resources
