#include "common/net/async.h"

#include "common/base/check.h"
#include "common/base/log.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace godwit::net {

Error to_error(const boost::system::error_code& code, const std::string& what) {
  if (code == asio::error::operation_aborted) return Error(Errc::cancelled, what + ": cancelled");
  if (code == asio::error::eof) return Error(Errc::peer_lost, what + ": the peer closed the connection");
  if (code.category() == boost::system::system_category()) return syscall_error(code.value(), what);
  if (code.category() == asio::error::get_netdb_category() || code.category() == asio::error::get_addrinfo_category())
    return Error(Errc::peer_lost, what + ": " + code.message());
  return Error(Errc::internal, what + ": " + code.message());
}

Error to_error(std::exception_ptr problem) {
  try {
    std::rethrow_exception(problem);
  } catch (const Error& e) {
    return e;
  } catch (const boost::system::system_error& e) {
    return to_error(e.code(), "network");
  } catch (const std::exception& e) {
    return Error(Errc::internal, e.what());
  }
}

void spawn(Executor executor, std::string name, awaitable<void> work) {
  spawn(executor, std::move(work), [name = std::move(name)](std::exception_ptr problem) {
    if (!problem) return;
    const Error e = to_error(problem);
    if (e.errc() == Errc::cancelled) return;
    log::error(name + ".failed", {{"code", godwit::name(e.errc())}, {"message", e.message()}});
  });
}

void spawn(Executor executor, awaitable<void> work, std::function<void(std::exception_ptr)> ended) {
  asio::co_spawn(executor, std::move(work), std::move(ended));
}

awaitable<void> sleep_for(Clock::duration time) {
  asio::steady_timer timer(co_await asio::this_coro::executor, time);
  co_await timer.async_wait(asio::use_awaitable);
}

awaitable<void> Signal::wait() { co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable)); }

awaitable<bool> Signal::wait_until(Clock::time_point deadline) {
  // A timer of its own would need a second wait; one that is notified through a shared cancel needs a list.
  // Polling the shared timer at its own expiry is enough: the nearest deadline wakes everybody, spuriously.
  if (deadline < timer_.expiry()) timer_.expires_at(deadline);
  co_await timer_.async_wait(asio::as_tuple(asio::use_awaitable));
  if (timer_.expiry() <= Clock::now()) timer_.expires_at(Clock::time_point::max());
  co_return Clock::now() < deadline;
}

void Signal::notify() { timer_.cancel(); }

}  // namespace godwit::net
