#include "common/net/within.h"

namespace godwit::net::detail {

// Cancelled from outside it must fail, not succeed: else the cancelled operation would be reported as late.
awaitable<bool> expired(Clock::duration limit) {
  asio::steady_timer timer(co_await asio::this_coro::executor, limit);
  co_await timer.async_wait(asio::use_awaitable);
  co_return true;
}

}  // namespace godwit::net::detail
