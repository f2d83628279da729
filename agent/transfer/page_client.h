// The sending end of a migration: takes frames out of the engine's ring and gets them to the other node.
//
// Payloads go to the destination's page server over several TLS streams; what the frames are and where their
// payloads lie (the manifest) goes to `manifest`, in sequence order, for the agents' own channel. Frames are sent
// straight out of the ring, and released there when the kernel has them. Memory is bounded by the ring.
//
// Everything is made, used and called back on one executor's thread; encryption has threads of its own.
#pragma once

#include "agent/transfer/page_stream.h"
#include "agent/transfer/rate_limit.h"
#include "common/pagewire/ring.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace godwit::transfer {

class PageClient {
 public:
  struct Options {
    net::Address server;
    net::TlsContext tls;
    std::string node;  // of the page server, as its certificate has it
    std::string migration;
    std::string token;  // 32 bytes
    unsigned streams = 2;
    std::uint64_t rate_limit = 0;  // bytes per second; 0: none
    // Frames are under way and the page server has stored none for this long: the link or the destination is dead.
    Clock::duration stall_limit = std::chrono::seconds(60);
  };
  struct Events {
    // Entries as parse_manifest reads them, up to about 64 KiB at a time. Sending waits while this does.
    std::function<net::awaitable<void>(std::string entries)> manifest;
    // Every frame up to this one is stored at the page server, and its entry was taken by `manifest`.
    std::function<void(std::uint64_t sequence)> stored;
    // Once; nothing else follows. peer_lost, denied, no_space, protocol, timed_out.
    std::function<void(Error)> failed;
  };
  struct Counters {
    std::uint64_t frames = 0, payload_bytes = 0;
    std::uint64_t sent_sequence = 0;    // handed to a stream
    std::uint64_t stored_sequence = 0;  // and everything before
  };

  // Opens all streams; only then frames are taken from the ring.
  static net::awaitable<std::unique_ptr<PageClient>> connect(Options options, pagewire::RingFds ring, Events events);
  ~PageClient();  // aborts what is under way
  PageClient(const PageClient&) = delete;
  PageClient& operator=(const PageClient&) = delete;

  void set_rate_limit(std::uint64_t bytes_per_second);
  Clock::time_point held_back_until() const;  // by the rate limit
  Counters counters() const;

  // Says goodbye to the page server after everything that is in the ring now. No callback follows.
  net::awaitable<void> finish(Clock::duration limit);

  struct State;
  explicit PageClient(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<State> state_;
};

}  // namespace godwit::transfer
