// How a run asks an agent: one request, one reply of the right kind, and an end to every wait.
#include "coordinator/migration/run.h"

#include <boost/asio/experimental/awaitable_operators.hpp>

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

awaitable<api::Envelope> Run::ask_while(std::string node, api::Envelope request, Reply reply, Clock::duration stall,
                                        std::optional<Deadline> deadline) {
  constexpr auto without_end = std::chrono::hours(24 * 30);  // stalled_or_given_up() is the end
  heard_ = Clock::now();
  return answer_or(ask(std::move(node), std::move(request), reply, without_end),
                   stalled_or_given_up(stall, std::move(deadline)));
}

awaitable<api::Envelope> Run::answer_or(awaitable<api::Envelope> asking, awaitable<std::exception_ptr> end) {
  using namespace boost::asio::experimental::awaitable_operators;
  auto first = co_await (answer_of(std::move(asking)) || std::move(end));
  if (first.index() == 1) std::rethrow_exception(std::get<1>(first));
  Answer& answer = std::get<0>(first);
  if (answer.problem) std::rethrow_exception(answer.problem);
  // Whoever cancelled while the answer was on its way here has been told that it is not too late.
  if (const std::optional<Error> why = why_given_up()) throw *why;
  co_return std::move(*answer.envelope);
}

awaitable<std::exception_ptr> Run::stalled_or_given_up(Clock::duration stall, std::optional<Deadline> deadline) {
  const Clock::time_point end = deadline ? deadline->at : Clock::time_point::max();
  while (!why_given_up() && Clock::now() < std::min(heard_ + stall, end))
    co_await giving_up_.wait_until(std::min(heard_ + stall, end));
  if (const std::optional<Error> why = why_given_up()) co_return std::make_exception_ptr(*why);
  if (deadline && Clock::now() >= end) co_return std::make_exception_ptr(std::move(deadline->missed));
  co_return std::make_exception_ptr(Error(
      Errc::timed_out,
      fmt::format("no progress for {:.3g} s while {}", std::chrono::duration<double>(stall).count(), name(m_.phase)),
      "is the path between the nodes up?"));
}

// Of a migration that is asking: its questions are put anew then, to undo instead of to learn.
awaitable<std::exception_ptr> Run::cancelled_meanwhile() {
  const bool already = cancelled_.has_value();
  while (already || !cancelled_) co_await giving_up_.wait_until(Clock::time_point::max());
  co_return std::make_exception_ptr(*cancelled_);
}

// Until the destination is asked to commit, the source can have its copy back. A coordinator that stops lets a pause
// that has begun end.
std::optional<Error> Run::why_given_up() const {
  if (m_.phase > Phase::arming || asked_to_commit_) return std::nullopt;
  if (cancelled_) return cancelled_;
  if (!stopping_ || m_.phase >= Phase::freezing) return std::nullopt;
  return Error(Errc::cancelled, "the coordinator is shutting down", "start the migration again");
}

}  // namespace godwit::coordinator
