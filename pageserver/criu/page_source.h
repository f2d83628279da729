// Where the relay has a dump's pages from: a ring in shared memory, into which the engine reads them, so that they are
// not copied on their way to being encrypted.
#pragma once

#include "common/pagewire/ring.h"

#include <cstddef>
#include <span>

namespace godwit::pageserver::criu {

class PageSource {
 public:
  virtual ~PageSource() = default;
  // At most so many bytes of what comes next, or none when it is not there yet; valid until the next call.
  virtual std::span<const std::byte> take_some(std::size_t most) = 0;
  // For more. Errc::peer_lost, Errc::timed_out.
  virtual void wait() = 0;
};

// The records of a ring, one behind the other. One thread.
class RingPages : public PageSource {
 public:
  // `engine`: its socket, which hangs up when it dies; a ring does not say so. Both are borrowed.
  RingPages(pagewire::Ring& ring, int engine) : ring_(ring), engine_(engine) {}
  std::span<const std::byte> take_some(std::size_t most) override;
  void wait() override;

 private:
  bool next();
  void wait(Clock::time_point deadline);

  pagewire::Ring& ring_;
  int engine_;
  std::span<const std::byte> left_;
  bool taken_ = false;  // the oldest record of the ring is the one that `left_` is of
};

}  // namespace godwit::pageserver::criu
