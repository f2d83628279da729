// Requests, replies and notices between two programs: api::Envelopes over one Connection.
//
// framing.h says how they stand on the wire. Both sides may ask. Requests that arrive run side by side, at most 64;
// notices (id 0) run one after the other in the order of arrival, before anything that arrives later is looked at: a
// slow notice handler slows the peer down.
// A notice handler must not ask on the same channel.
//
// Everything happens on the connection's executor. Failures: peer_lost, protocol, timed_out, cancelled, and
// whatever the peer's handler threw.
#pragma once

#include "common/api/control.pb.h"
#include "common/net/connection.h"

#include <functional>
#include <memory>

namespace godwit::net {

api::Failure to_failure(const Error& error);
Error from_failure(const api::Failure& failure);

class Channel {
 public:
  struct Handlers {
    std::function<awaitable<api::Envelope>(api::Envelope)> request;  // id and reply of the answer are set here
    std::function<awaitable<void>(api::Envelope)> notice;
    std::function<void(Error)> closed;  // once, with the reason; not called after close()
  };

  // Reads from now on. Handlers that are not set answer Errc::unsupported, or ignore.
  static std::shared_ptr<Channel> start(Connection connection, Handlers handlers);

  // Sends a request (the id is set here, and no other channel has had it) and returns its reply; a Failure is thrown as
  // the Error it describes.
  awaitable<api::Envelope> ask(api::Envelope request, Clock::duration limit);

  // Sends a notice. Returns when it is queued, which takes as long as more than 4 MiB are waiting.
  awaitable<void> post(api::Envelope notice);

  // Ends everything: pending requests of either side fail.
  void close();
  bool is_open() const;

  const Identity& peer() const;
  const std::string& address() const;

  struct State;
  explicit Channel(std::shared_ptr<State> state) : state_(std::move(state)) {}
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace godwit::net
