// One session of CRIU's page-server protocol, as the server: reads commands until the client closes, stores what they
// bring, answers. Never trusts a number that it reads; every wait has an end.
//
// Errors: Errc::protocol, Errc::peer_lost, Errc::timed_out, and those of ImageWriter. There is no answer for them: the
// client sees the connection end.
#pragma once

#include "pageserver/criu/image_writer.h"
#include "pageserver/criu/page_queue.h"
#include "pageserver/criu/stream.h"

#include <chrono>
#include <cstdint>
#include <span>

namespace godwit::pageserver::criu {

struct SessionLimits {
  // Between commands: a client that freezes and looks through a large tree says nothing meanwhile.
  std::chrono::milliseconds idle{300'000};
  // For a command that has begun, and for each 256 KiB of pages: 9 KB/s is no network.
  std::chrono::milliseconds stall{30'000};
};

class Session {
 public:
  Session(Stream& stream, ImageWriter& images, SessionLimits limits = {});

  // Returns when the client has closed the session, everything is stored, and the client has been told so.
  void run();

  pagewire::criu::HeaderSize header_size() const { return size_; }  // of the client that has said something

 private:
  bool next(pagewire::criu::Header& header);
  void receive_pages(std::uint64_t bytes);
  void answer(std::span<const std::byte> bytes);

  static constexpr std::size_t buffers = 4;

  Stream& stream_;
  ImageWriter& images_;
  BufferedReader reader_;
  PageQueue queue_;  // of what lies in the reader
  SessionLimits limits_;
  pagewire::criu::HeaderSize size_{};  // 0: not known yet
};

}  // namespace godwit::pageserver::criu
