// One page stream: from the end of its hello to its goodbye.
//
// Lives on one worker's io_context and is used on that thread only, except for its constructor and the callbacks'
// destination: they are called on the worker and hand over to whoever keeps the session.
//
// It stores at most `quota` bytes more than have been released, by not reading on. Each stream of a session has a
// quota of its own: with a common one, a stream that runs ahead could take the room that the frame needed next, on
// another stream, has to have, and nobody would ever release anything.
#pragma once

#include "common/net/connection.h"
#include "common/pagewire/wire.h"
#include "pageserver/session/frame_splitter.h"
#include "pageserver/store/appender.h"

#include <functional>
#include <memory>

namespace godwit::pageserver {

class Stream : public std::enable_shared_from_this<Stream> {
 public:
  struct Totals {
    std::uint64_t bytes = 0, frames = 0;
  };
  struct Events {
    std::function<void(std::uint64_t upto)> stored;
    std::function<void(Totals, std::exception_ptr)> ended;  // null: the client said goodbye
  };

  Stream(std::uint32_t number, std::uint64_t quota, net::Connection connection, std::unique_ptr<Appender> file,
         Events events);

  void start();
  void release(std::uint64_t upto);
  void stop();  // ends with Errc::cancelled

 private:
  net::awaitable<void> run();
  net::awaitable<void> receive();
  net::awaitable<void> store(std::span<const std::byte> bytes);
  bool has_news() const;
  net::awaitable<void> report();
  net::awaitable<void> tell(pagewire::AnswerKind kind, pagewire::Reason reason);
  net::awaitable<void> tell_and_linger(pagewire::Reason reason);
  net::awaitable<void> complain(Errc code);
  void end(std::exception_ptr problem);

  const std::uint32_t number_;
  const std::uint64_t quota_;
  net::Connection connection_;
  std::unique_ptr<Appender> file_;
  Events events_;
  FrameSplitter splitter_;
  std::uint64_t appended_ = 0, released_ = 0, reported_ = 0, reported_sequence_ = 0;
  bool stopped_ = false;
  net::Signal room_;
};

}  // namespace godwit::pageserver
