#include "agent/service/test_middleman.h"

#include "common/net/framing.h"

namespace godwit::service {
namespace {

using namespace std::chrono_literals;
using net::awaitable;

constexpr int latest_ms = 60;
constexpr auto old_every = 20ms;

awaitable<api::Envelope> read_one(net::Connection& from) {
  net::FrameHead head;
  co_await from.read_exact(head);
  std::string body(net::body_length(head, "the agent"), '\0');
  co_await from.read_exact(std::as_writable_bytes(std::span(body)));
  co_return net::parse_envelope(body, "the agent");
}

}  // namespace

Middleman::Middleman(TestPair& pair, TestNode& destination, Habits habits)
    : listener_(pair.a.io->get_executor(), "middleman", {"127.0.0.1", "0"},
                net::TlsContext::load(destination.options.certs)) {
  state_->habits = habits;
  state_->random.seed(habits.seed);
  listener_.start([state = state_, tls = net::TlsContext::load(pair.a.options.certs),
                   to = destination.agent->context().peer_address](net::Connection source) {
    return serve(state, tls, to, std::move(source));
  });
}

awaitable<void> Middleman::serve(Shared state, net::TlsContext as_source, std::string to, net::Connection source) {
  net::Connection destination = co_await net::connect(net::parse_address(to), std::move(as_source), 5s);
  const auto link = std::make_shared<Link>(std::move(source), std::move(destination));
  const net::Executor executor = link->source.executor();
  net::spawn(executor, "middleman", until_it_ends(state, link, write_all(link, true)));
  net::spawn(executor, "middleman", until_it_ends(state, link, write_all(link, false)));
  net::spawn(executor, "middleman", until_it_ends(state, link, repeat_old_ones(state, link)));
  net::spawn(executor, "middleman", until_it_ends(state, link, pass_on(state, link, false)));
  co_await until_it_ends(state, link, pass_on(state, link, true));
}

// Of one way or the other: whoever is cut off at one end is cut off at the other.
awaitable<void> Middleman::until_it_ends(Shared state, std::shared_ptr<Link> link, awaitable<void> work) {
  try {
    co_await std::move(work);
  } catch (const Error&) {
  }
  while (state->silent) co_await net::sleep_for(std::chrono::milliseconds(10));
  link->ended = true;
  link->source.close();
  link->destination.close();
  link->to_source.news.notify();
  link->to_destination.news.notify();
}

awaitable<void> Middleman::write_all(std::shared_ptr<Link> link, bool to_source) {
  Way& way = to_source ? link->to_source : link->to_destination;
  net::Connection& to = to_source ? link->source : link->destination;
  while (!link->ended) {
    if (way.queue.empty()) {
      co_await way.news.wait();
      continue;
    }
    const std::string frame = std::move(way.queue.front());
    way.queue.pop_front();
    co_await to.write(frame);
  }
}

awaitable<void> Middleman::deliver(std::shared_ptr<Link> link, bool to_source, std::string frame,
                                   Clock::duration late) {
  if (late > Clock::duration::zero()) co_await net::sleep_for(late);
  Way& way = to_source ? link->to_source : link->to_destination;
  way.queue.push_back(std::move(frame));
  way.news.notify();
}

awaitable<void> Middleman::pass_on(Shared state, std::shared_ptr<Link> link, bool from_source) {
  net::Connection& from = from_source ? link->source : link->destination;
  while (!link->ended) {
    const api::Envelope envelope = co_await read_one(from);
    if (state->silent) continue;
    if (envelope.reply() && envelope.id() >= own_ids) continue;
    if (envelope.has_manifest()) {  // what announces pages has an order
      for (int i = 0; i < (state->habits.manifests_twice ? 2 : 1); ++i)
        co_await deliver(link, !from_source, net::frame(envelope), {});
      continue;
    }
    if (from_source && envelope.id() > 0 && !envelope.reply()) state->old.push_back(envelope);
    for (int i = 0; i < 2; ++i) {
      const auto late = std::chrono::milliseconds(state->random() % latest_ms);
      net::spawn(from.executor(), "middleman", deliver(link, !from_source, net::frame(envelope), late));
    }
    state->repeated++;
  }
}

awaitable<void> Middleman::repeat_old_ones(Shared state, std::shared_ptr<Link> link) {
  while (!link->ended) {
    co_await net::sleep_for(old_every);
    if (state->old.empty()) continue;
    api::Envelope again = state->old[state->random() % state->old.size()];
    again.set_id(state->next_id++);
    co_await deliver(link, false, net::frame(again), {});
  }
}

}  // namespace godwit::service
