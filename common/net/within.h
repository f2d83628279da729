// Every wait has an end: `auto reply = co_await within(5s, "asking the peer", peer.ask(std::move(request)));`
//
// Throws Errc::timed_out after `limit`; the operation has then been cancelled and has ended. An exception of
// the operation is passed on as it is.
#pragma once

#include "common/net/async.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <optional>
#include <type_traits>

namespace godwit::net {
namespace detail {

// `a || b` waits for the first *success*: a failure must count as an outcome, or the timer would run out first.
template <class T>
struct Outcome {
  std::exception_ptr problem;
  std::optional<std::conditional_t<std::is_void_v<T>, bool, T>> value;
};

template <class T>
awaitable<Outcome<T>> outcome_of(awaitable<T> operation) {
  Outcome<T> outcome;
  try {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(operation);
      outcome.value = true;
    } else {
      outcome.value.emplace(co_await std::move(operation));
    }
  } catch (...) {
    outcome.problem = std::current_exception();
  }
  co_return outcome;
}

awaitable<bool> expired(Clock::duration limit);

}  // namespace detail

template <class T>
awaitable<T> within(Clock::duration limit, std::string what, awaitable<T> operation) {
  using namespace asio::experimental::awaitable_operators;
  auto first = co_await (detail::outcome_of(std::move(operation)) || detail::expired(limit));
  if (first.index() == 1) {
    const auto seconds = std::chrono::duration<double>(limit).count();
    fail(Errc::timed_out, "{}: no answer within {:.3g} s", what, seconds);
  }
  detail::Outcome<T>& outcome = std::get<0>(first);
  if (outcome.problem) std::rethrow_exception(outcome.problem);
  if constexpr (!std::is_void_v<T>) co_return std::move(*outcome.value);
}

template <class T>
awaitable<T> within(Clock::duration limit, awaitable<T> operation) {
  return within(limit, std::string("waiting"), std::move(operation));
}

}  // namespace godwit::net
