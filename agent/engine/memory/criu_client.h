// The client's side of CRIU's page-server protocol, over a connected socket that somebody passed on: the engine itself
// has no network. With TLS, that socket leads to a relay; then pages go through a ring in shared memory, from which the
// relay encrypts them, and only the rest through the socket.
//
// Blocking, with limits: a server that stalls must not keep a frozen target waiting for ever. That its host is alive is
// for whoever connected to see to (net::dial). Errors: Errc::peer_lost when the server has gone (it has no other way to
// say that something is wrong), Errc::timed_out, Errc::protocol.
#pragma once

#include "common/base/buffer.h"
#include "common/base/fd.h"
#include "common/pagewire/criu.h"
#include "common/pagewire/ring.h"

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include <sys/uio.h>

namespace godwit::engine {

struct ClientLimits {
  // For the server to take more, or to answer what it has only to look up.
  std::chrono::milliseconds stall{30'000};
  // For an answer when it has pages: before it opens the next object, and before it closes the session, the server
  // writes them all to its disk (fsync). 1 TB at 300 MB/s.
  std::chrono::milliseconds stored{3'600'000};
};

class CriuClient {
 public:
  // `pages` is the relay's ring, or nothing: then they go through the socket.
  CriuClient(UniqueFd socket, pagewire::criu::HeaderSize size, std::unique_ptr<pagewire::Ring> pages = nullptr,
             ClientLimits limits = {});

  // Whether the server's parent images have the object. `parent_has` may be asked at any time, `open` begins to send.
  bool parent_has(pagewire::ObjectId object);
  bool open(pagewire::ObjectId object);

  // Room for pages (pagewire::max_payload), from where they are sent without being copied: those that add_pages() gets
  // from its beginning on, one call's behind the other's. The same room until flush().
  std::span<std::byte> frame();

  // Runs of the open object, ascending over all calls. They are sent together by flush(): data is borrowed until then.
  void add_pages(pagewire::Run run, std::span<const std::byte> data);
  void add_hole(pagewire::Run run);
  void flush();

  // Returns when the server has everything stored. The last call.
  void close();

 private:
  void header(pagewire::criu::Command command, std::uint16_t flags, pagewire::Run run);
  void ask(pagewire::criu::Command command, pagewire::ObjectId object, std::span<std::byte> answer);
  void make_room();
  void copy_to_frame(std::span<const std::byte> data);
  std::span<std::byte> reserve();
  void receive(std::span<std::byte> into, std::chrono::milliseconds limit);
  void limit_waits(int option, std::chrono::milliseconds limit);

  UniqueFd socket_;
  pagewire::criu::HeaderSize size_;
  ClientLimits limits_;
  pagewire::ObjectId object_ = 0;
  bool has_pages_ = false;                              // the server, of this session
  std::vector<pagewire::criu::EncodedHeader> headers_;  // never more than it was made for: pieces_ points into it
  std::vector<iovec> pieces_;
  std::unique_ptr<pagewire::Ring> ring_;
  Buffer own_frame_;            // without a ring
  std::span<std::byte> frame_;  // reserved in the ring
  std::size_t framed_ = 0;      // bytes of it that were added
};

}  // namespace godwit::engine
