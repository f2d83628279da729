#include "common/net/channel.h"

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/net/framing.h"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <sys/random.h>

#include <deque>
#include <map>

namespace godwit::net {
namespace {

constexpr std::size_t max_queued = 4u << 20;
constexpr std::size_t max_running = 64;

struct Pending {
  explicit Pending(Executor e) : answered(std::move(e)) {}
  Signal answered;
  std::optional<api::Envelope> reply;
};

// Where a channel begins to count its requests: at a number that no channel before it has come near, so that a reply to
// one of theirs, held up somewhere and delivered here, is the answer to nothing. Never 0, and far from the end of all
// numbers.
std::uint64_t first_id() {
  std::uint64_t bits = 0;
  check(::getrandom(&bits, sizeof bits, 0), "get random bytes");
  return (bits >> 2) + 1;
}

}  // namespace

api::Failure to_failure(const Error& error) {
  api::Failure failure;
  failure.set_code(std::string(name(error.errc())));
  failure.set_message(error.message());
  failure.set_hint(error.hint());
  return failure;
}

Error from_failure(const api::Failure& f) { return Error(errc_from_name(f.code()), f.message(), f.hint()); }

struct Channel::State : std::enable_shared_from_this<State> {
  Connection connection;
  Handlers handlers;
  std::optional<Error> ended;
  std::deque<std::string> queue;
  std::size_t queued = 0, running = 0, loops = 2;
  std::uint64_t next_id = first_id();
  std::map<std::uint64_t, Pending*> pending;
  Signal work, room, slot;

  State(Connection c, Handlers h)
      : connection(std::move(c)),
        handlers(std::move(h)),
        work(connection.executor()),
        room(connection.executor()),
        slot(connection.executor()) {}

  void end(Error reason, bool tell) {
    if (ended) return;
    ended = std::move(reason);
    connection.close();
    work.notify();
    room.notify();
    slot.notify();
    for (auto& [id, p] : pending) p->answered.notify();
    if (tell && handlers.closed) handlers.closed(*ended);
  }
};

namespace {

using Shared = std::shared_ptr<Channel::State>;

awaitable<void> enqueue(Shared s, api::Envelope envelope) {
  std::string bytes = frame(envelope);
  while (!s->ended && s->queued > max_queued) co_await s->room.wait();
  if (s->ended) throw *s->ended;
  s->queued += bytes.size();
  s->queue.push_back(std::move(bytes));
  s->work.notify();
}

awaitable<void> write_all(Shared s) {
  while (!s->ended) {
    if (s->queue.empty()) {
      co_await s->work.wait();
      continue;
    }
    std::deque<std::string> batch;
    batch.swap(s->queue);
    std::vector<Bytes> pieces;
    std::size_t total = 0;
    for (const std::string& one : batch) {
      pieces.push_back(std::as_bytes(std::span(one)));
      total += one.size();
    }
    co_await s->connection.write(std::move(pieces));
    s->queued -= total;
    s->room.notify();
  }
}

awaitable<api::Envelope> answer_of(Shared s, api::Envelope request) {
  if (!s->handlers.request) fail(Errc::unsupported, "this side answers no requests");
  co_return co_await s->handlers.request(std::move(request));
}

awaitable<void> answer(Shared s, api::Envelope request) {
  struct Slot {
    Shared s;
    explicit Slot(Shared c) : s(std::move(c)) { ++s->running; }
    ~Slot() {
      --s->running;
      s->slot.notify();
    }
  } taken(s);
  const std::uint64_t id = request.id(), arrived = monotonic_ns();
  api::Envelope reply;
  try {
    reply = co_await answer_of(s, std::move(request));
  } catch (...) {
    *reply.mutable_failure() = to_failure(to_error(std::current_exception()));
  }
  reply.set_id(id);
  reply.set_reply(true);
  reply.set_took_ns(monotonic_ns() - arrived);
  if (!s->ended) co_await enqueue(s, std::move(reply));
}

awaitable<api::Envelope> read_one(Shared s) {
  FrameHead head;
  co_await s->connection.read_exact(head);
  std::string body(body_length(head, s->connection.address()), '\0');
  co_await s->connection.read_exact(std::as_writable_bytes(std::span(body)));
  co_return parse_envelope(body, s->connection.address());
}

awaitable<void> read_all(Shared s) {
  while (!s->ended) {
    api::Envelope envelope = co_await read_one(s);
    if (envelope.reply()) {
      // Nobody waits any more for the reply to a request that has timed out, or for one that was answered before.
      if (const auto found = s->pending.find(envelope.id()); found != s->pending.end()) {
        found->second->reply = std::move(envelope);
        found->second->answered.notify();
      }
    } else if (envelope.id() == 0) {
      if (s->handlers.notice) co_await s->handlers.notice(std::move(envelope));
    } else {
      while (!s->ended && s->running >= max_running) co_await s->slot.wait();
      spawn(s->connection.executor(), "channel.answer", answer(s, std::move(envelope)));
    }
  }
}

void run(Shared s, awaitable<void> loop) {
  spawn(s->connection.executor(), std::move(loop), [s](std::exception_ptr problem) {
    s->end(problem ? to_error(problem) : Error(Errc::cancelled, "the channel has been closed"), true);
    if (--s->loops == 0) s->handlers = {};  // they often own what owns the channel
  });
}

awaitable<api::Envelope> ask_on(Shared s, api::Envelope request, Clock::duration limit) {
  if (s->ended) throw *s->ended;
  const Clock::time_point deadline = Clock::now() + limit;
  const std::uint64_t id = s->next_id++;
  Pending mine(s->connection.executor());
  struct Entry {
    Shared s;
    std::uint64_t id;
    ~Entry() { s->pending.erase(id); }
  } entry{s, id};
  s->pending.emplace(id, &mine);
  const int body = request.body_case();
  request.set_id(id);
  request.set_reply(false);
  co_await enqueue(s, std::move(request));
  while (!mine.reply && !s->ended) {
    if (co_await mine.answered.wait_until(deadline) || mine.reply) continue;
    const google::protobuf::FieldDescriptor* field = api::Envelope::descriptor()->FindFieldByNumber(body);
    fail(Errc::timed_out, "{} did not answer {} within {:.3g} s", to_string(s->connection.peer()),
         field ? field->name() : "a request", std::chrono::duration<double>(limit).count());
  }
  if (!mine.reply) throw *s->ended;
  if (mine.reply->has_failure()) throw from_failure(mine.reply->failure());
  co_return std::move(*mine.reply);
}

}  // namespace

std::shared_ptr<Channel> Channel::start(Connection connection, Handlers handlers) {
  auto state = std::make_shared<State>(std::move(connection), std::move(handlers));
  run(state, read_all(state));
  run(state, write_all(state));
  return std::make_shared<Channel>(std::move(state));
}

Channel::~Channel() { close(); }

awaitable<api::Envelope> Channel::ask(api::Envelope request, Clock::duration limit) {
  return ask_on(state_, std::move(request), limit);
}

awaitable<void> Channel::post(api::Envelope notice) {
  notice.set_id(0);
  notice.set_reply(false);
  return enqueue(state_, std::move(notice));
}

void Channel::close() { state_->end(Error(Errc::cancelled, "the channel has been closed"), false); }
bool Channel::is_open() const { return !state_->ended; }
const Identity& Channel::peer() const { return state_->connection.peer(); }
const std::string& Channel::address() const { return state_->connection.address(); }

}  // namespace godwit::net
