// Accepts TLS connections, bounded against floods: at most `handshakes` peers may be in the handshake, each for
// at most `handshake_limit`; one more pushes the oldest out, so that an honest peer, whose handshake takes
// milliseconds, gets through a flood of idle ones. At most `connections` are served at a time; who is in the way of one
// more is for the server to say.
#pragma once

#include "common/net/connection.h"

#include <functional>
#include <memory>

namespace godwit::net {

// When everything is served that may be: the newest is turned away, which is right where peers stay; or the oldest
// gives way, where serving one is over as soon as it has said what it wants, and only those that do not are still
// there.
enum class Overload { newest_turned_away = 1, oldest_gives_way };

struct ListenerOptions {
  std::size_t handshakes = 64;
  std::size_t connections = 256;
  Overload overload = Overload::newest_turned_away;
  Clock::duration handshake_limit = std::chrono::seconds(5);
};

class Listener {
 public:
  struct State;
  using Serve = std::function<awaitable<void>(Connection)>;

  // Binds at once; port 0 takes a free one. `name` is for the log.
  Listener(Executor executor, std::string name, const Address& address, TlsContext tls, ListenerOptions options = {});
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  asio::ip::tcp::endpoint endpoint() const;

  // Starts accepting. `serve` runs as a coroutine of its own for every authenticated peer; what it throws is logged.
  void start(Serve serve);
  void close();  // no more; connections being served go on

 private:
  std::shared_ptr<State> state_;
};

}  // namespace godwit::net
