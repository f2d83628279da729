// How a run asks an agent: one request, one reply of the right kind, and an end to every wait.
#include "coordinator/migration/run.h"

#include <boost/asio/experimental/awaitable_operators.hpp>

#include <algorithm>

namespace godwit::coordinator {
namespace {

using net::awaitable;

struct Answer {
  std::optional<api::Envelope> envelope;
  std::exception_ptr problem;
};

// `a || b` waits for the first success, so a failure has to be one.
awaitable<Answer> answer_of(awaitable<api::Envelope> asking) {
  Answer answer;
  try {
    answer.envelope = co_await std::move(asking);
  } catch (...) {
    answer.problem = std::current_exception();
  }
  co_return answer;
}

}  // namespace

awaitable<api::Envelope> Run::ask(std::string node, api::Envelope request, Reply expected, Clock::duration limit) {
  const std::shared_ptr<net::Channel> channel = registry_.channel(node);
  api::Envelope reply = co_await channel->ask(std::move(request), limit);
  if (reply.body_case() != expected) {
    const auto* field = api::Envelope::descriptor()->FindFieldByNumber(expected);
    fail(Errc::protocol, "node '{}' answered something else than '{}'", node, field->name());
  }
  co_return reply;
}

awaitable<api::Envelope> Run::ask_while(std::string node, api::Envelope request, Reply reply, Clock::duration stall) {
  using namespace boost::asio::experimental::awaitable_operators;
  constexpr auto without_end = std::chrono::hours(24 * 30);  // stalled_or_stopped() is the end
  heard_ = Clock::now();
  awaitable<api::Envelope> asking = ask(node, std::move(request), reply, without_end);
  auto first = co_await (answer_of(std::move(asking)) || stalled_or_stopped(stall));
  if (first.index() == 1) std::rethrow_exception(std::get<1>(first));
  Answer& answer = std::get<0>(first);
  if (answer.problem) std::rethrow_exception(answer.problem);
  co_return std::move(*answer.envelope);
}

awaitable<std::exception_ptr> Run::stalled_or_stopped(Clock::duration stall) {
  while (!stopping_ && Clock::now() - heard_ < stall)
    co_await net::sleep_for(std::min<Clock::duration>(stall, std::chrono::milliseconds(100)));
  if (stopping_)
    co_return std::make_exception_ptr(
        Error(Errc::cancelled, "the coordinator is shutting down", "start the migration again"));
  co_return std::make_exception_ptr(Error(
      Errc::timed_out,
      fmt::format("no progress for {:.3g} s while {}", std::chrono::duration<double>(stall).count(), name(m_.phase)),
      "is the path between the nodes up?"));
}

}  // namespace godwit::coordinator
