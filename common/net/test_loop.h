// For the tests of this folder: runs one coroutine to its end on an io_context, at most `limit`.
#pragma once

#include "common/net/async.h"

#include <boost/asio/io_context.hpp>

#include <chrono>

namespace godwit::net {

inline void run_to_end(asio::io_context& io, awaitable<void> work, Clock::duration limit = std::chrono::seconds(20)) {
  io.restart();
  bool ended = false;
  std::exception_ptr problem;
  spawn(io.get_executor(), std::move(work), [&](std::exception_ptr p) {
    ended = true;
    problem = p;
  });
  const auto deadline = Clock::now() + limit;
  while (!ended && Clock::now() < deadline) io.run_one_until(deadline);
  if (!ended) fail(Errc::timed_out, "the test did not end");
  if (problem) std::rethrow_exception(problem);
}

// The code of the Error that `work` ends with.
inline awaitable<Errc> code_of(awaitable<void> work) {
  try {
    co_await std::move(work);
  } catch (...) {
    co_return to_error(std::current_exception()).errc();
  }
  throw std::logic_error("it succeeded");
}

}  // namespace godwit::net
