// For tests: stands between the source's agent and the destination's peer listener, with the certificates of both, and
// does to what they say what a bad network, or a connection that nobody has missed, could do: messages come twice, late
// and in another order, and old requests come again at any time.
#pragma once

#include "agent/service/test_pair.h"
#include "common/net/listener.h"

#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace godwit::service {

class Middleman {
 public:
  struct Habits {
    unsigned seed = 1;
    bool manifests_twice = false;  // what announces pages comes in its order in any case
  };

  Middleman(TestPair& pair, TestNode& destination, Habits habits);
  // What another one has passed on comes here, too.
  void repeat_also(const Middleman& other) { state_->old = other.state_->old; }
  std::string address() const { return net::to_string(listener_.endpoint()); }
  // As a node that has gone off: connections stay open, and nothing comes any more, not even their end.
  void fall_silent(bool silent = true) { state_->silent = silent; }
  std::size_t repeated() const { return state_->repeated; }

 private:
  struct Way {  // one writer, in the order of the queue
    explicit Way(net::Executor executor) : news(std::move(executor)) {}
    std::deque<std::string> queue;
    net::Signal news;
  };
  struct Link {
    Link(net::Connection s, net::Connection d)
        : source(std::move(s)),
          destination(std::move(d)),
          to_source(source.executor()),
          to_destination(source.executor()) {}
    net::Connection source, destination;
    Way to_source, to_destination;
    bool ended = false;
  };
  static constexpr std::uint64_t own_ids = std::uint64_t{1} << 63;  // no channel counts so far
  struct State {
    Habits habits;
    std::minstd_rand random;
    std::vector<api::Envelope> old;   // requests of the source
    std::uint64_t next_id = own_ids;  // of those that come again: nobody waits for the answer
    std::size_t repeated = 0;
    bool silent = false;
  };
  using Shared = std::shared_ptr<State>;

  static net::awaitable<void> serve(Shared state, net::TlsContext as_source, std::string to, net::Connection source);
  static net::awaitable<void> pass_on(Shared state, std::shared_ptr<Link> link, bool from_source);
  static net::awaitable<void> write_all(std::shared_ptr<Link> link, bool to_source);
  static net::awaitable<void> deliver(std::shared_ptr<Link> link, bool to_source, std::string frame,
                                      Clock::duration late);
  static net::awaitable<void> repeat_old_ones(Shared state, std::shared_ptr<Link> link);
  static net::awaitable<void> until_it_ends(Shared state, std::shared_ptr<Link> link, net::awaitable<void> work);

  Shared state_ = std::make_shared<State>();
  net::Listener listener_;
};

}  // namespace godwit::service
