#include "common/net/test_loop.h"
#include "common/net/within.h"

#include <gtest/gtest.h>

namespace godwit::net {
namespace {

using namespace std::chrono_literals;

awaitable<int> seven_after(Clock::duration time) {
  co_await sleep_for(time);
  co_return 7;
}

awaitable<std::unique_ptr<int>> refuse() {
  fail(Errc::denied, "no");
  co_return nullptr;
}

awaitable<void> expect_seven() { EXPECT_EQ(co_await within(5s, seven_after(1ms)), 7); }

awaitable<void> too_late() {
  const auto start = Clock::now();
  EXPECT_EQ(co_await code_of(within(20ms, sleep_for(10s))), Errc::timed_out);
  EXPECT_LT(Clock::now() - start, 2s);
}

awaitable<void> await_refusal() { co_await within(10s, refuse()); }

awaitable<void> fails_at_once() {
  const auto start = Clock::now();
  EXPECT_EQ(co_await code_of(await_refusal()), Errc::denied);
  EXPECT_LT(Clock::now() - start, 2s);
}

awaitable<void> note_when(std::shared_ptr<Signal> signal, bool& ready, int& woken) {
  while (!ready) co_await signal->wait();
  ++woken;
}

awaitable<void> wake_two() {
  const Executor executor = co_await asio::this_coro::executor;
  const auto signal = std::make_shared<Signal>(executor);
  bool ready = false;
  int woken = 0;
  spawn(executor, "waiter", note_when(signal, ready, woken));
  spawn(executor, "waiter", note_when(signal, ready, woken));
  EXPECT_FALSE(co_await signal->wait_until(Clock::now() + 10ms));
  EXPECT_EQ(woken, 0);
  ready = true;
  signal->notify();
  co_await sleep_for(20ms);
  EXPECT_EQ(woken, 2);
}

TEST(Within, passes_the_result_on) {
  asio::io_context io(1);
  run_to_end(io, expect_seven());
}

TEST(Within, cancels_what_takes_too_long) {
  asio::io_context io(1);
  run_to_end(io, too_late());
}

TEST(Within, does_not_wait_for_the_limit_when_the_operation_fails) {
  asio::io_context io(1);
  run_to_end(io, fails_at_once());
}

TEST(Signal, wakes_everybody_and_survives_an_expired_deadline) {
  asio::io_context io(1);
  run_to_end(io, wake_two());
}

}  // namespace
}  // namespace godwit::net
