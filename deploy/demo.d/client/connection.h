// One TCP connection to a redis, pipelined: commands are queued, sent in bulk, and answered in order.
// The socket is non-blocking; only `roundtrip` and `connect` wait, with an end. Errors: Errc::peer_lost, timed_out.
#pragma once

#include "common/base/fd.h"
#include "deploy/demo.d/client/resp.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace godwit::demo {

struct Address {
  std::string host;
  std::uint16_t port = 6379;

  bool operator==(const Address&) const = default;
};

Address parse_address(const std::string& text);  // HOST:PORT

class Connection {
 public:
  // A connection counts once redis has answered a PING: the listener of a frozen redis accepts too.
  static Connection connect(const Address& address, std::chrono::milliseconds limit);

  int fd() const { return socket_.get(); }
  bool wants_to_write() const { return sent_ < out_.size(); }
  std::size_t unsent() const { return out_.size() - sent_; }

  void queue(std::initializer_list<std::string_view> command) { append_command(out_, command); }
  void send_some();     // as much as the socket takes
  void receive_some();  // whatever is there
  std::optional<Reply> next_reply();

  // Sends and receives until one reply has come.
  Reply wait_reply(std::chrono::milliseconds limit);

 private:
  explicit Connection(UniqueFd socket) : socket_(std::move(socket)) {}

  UniqueFd socket_;
  std::string out_;
  std::size_t sent_ = 0;
  std::string in_;
  std::size_t parsed_ = 0;
};

// Runs `count` commands with at most `window` unanswered: `ask` queues command i, `answered` gets its reply.
void pipeline(Connection& connection, std::uint64_t count, std::uint64_t window,
              const std::function<void(std::uint64_t)>& ask, const std::function<void(std::uint64_t, Reply)>& answered);

}  // namespace godwit::demo
