// One TLS stream to the page server, on a thread of its own: encryption is what the page path is bound by, and it
// must not hold up whatever else the agent does.
//
// Made and used on the `home` executor's thread; callbacks are called there.
#pragma once

#include "common/net/connection.h"
#include "common/pagewire/wire.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace godwit::transfer {

struct StreamTarget {
  net::Address address;
  net::TlsContext tls;
  std::string node;  // that the page server's certificate must name
  pagewire::Hello hello;
  Clock::duration limit = std::chrono::seconds(10);
};

class PageStream {
 public:
  struct Events {
    std::function<void(std::uint64_t sequence)> written;  // and everything before: its memory may be reused
    std::function<void(std::uint64_t sequence, std::uint64_t bytes)> stored;
    std::function<void(Error)> failed;  // once; nothing else follows
  };

  PageStream(net::Executor home, Events events);
  ~PageStream();  // aborts
  PageStream(const PageStream&) = delete;
  PageStream& operator=(const PageStream&) = delete;

  // Connects, says hello, waits for the welcome.
  net::awaitable<void> open(StreamTarget target);

  // Queues a frame: `header` as it is to be sent, and the rest of it in memory that stays until written().
  void send(const pagewire::FrameHeader& header, std::span<const std::byte> rest);
  std::uint64_t queued_bytes() const;  // not yet given to the kernel

  // After everything queued: says goodbye and waits until the page server has done so too.
  net::awaitable<void> finish(Clock::duration limit);

  struct Home;
  struct Remote;  // what is used on the stream's own thread

 private:
  struct Thread;

  std::unique_ptr<Thread> thread_;
  std::shared_ptr<Home> home_;
  std::shared_ptr<Remote> remote_;
};

}  // namespace godwit::transfer
