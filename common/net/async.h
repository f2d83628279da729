// The few words that all asynchronous code here is written with.
//
// One io_context per thread; whatever belongs to an io_context is used by its thread only. Coroutines take
// parameters by value, and `spawn` is the only way to start one: what it throws is logged, never lost.
#pragma once

#include "common/base/error.h"
#include "common/base/units.h"

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

#include <exception>
#include <functional>
#include <string>

namespace godwit::net {

namespace asio = boost::asio;
using asio::awaitable;
using Executor = asio::any_io_executor;

// Any exception as an Error: ours as they are, Asio's by their code (an aborted operation is Errc::cancelled),
// everything else Errc::internal.
Error to_error(std::exception_ptr problem);
Error to_error(const boost::system::error_code& code, const std::string& what);

// Runs `work` on `executor`. An exception is logged as `<name>.failed`, a cancellation is silent.
void spawn(Executor executor, std::string name, awaitable<void> work);
// The same, and tells how it ended: a null pointer or the exception. Called on `executor`.
void spawn(Executor executor, awaitable<void> work, std::function<void(std::exception_ptr)> ended);

awaitable<void> sleep_for(Clock::duration time);

// Wakes coroutines of the same thread that wait for something to change: `while (!ready) co_await changed.wait();`
// A wake-up may be spurious. `wait_until` returns false when the deadline has passed.
class Signal {
 public:
  explicit Signal(Executor executor) : timer_(std::move(executor), Clock::time_point::max()) {}

  awaitable<void> wait();
  awaitable<bool> wait_until(Clock::time_point deadline);
  void notify();

 private:
  asio::steady_timer timer_;
};

}  // namespace godwit::net
