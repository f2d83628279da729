// Where the dump's pages and state images go: a ring towards the agent, or an images directory.
#pragma once

#include "common/base/error.h"
#include "common/pagewire/frame.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace godwit::engine {

// Thrown by a live sink whose deadline is over.
class TooSlow : public Error {
 public:
  TooSlow() : Error(Errc::timed_out, "the destination takes frames too slowly") {}
};

class PageSink {
 public:
  virtual ~PageSink() = default;

  // A buffer of pagewire::max_payload bytes to read pages into; valid until the next call on this sink.
  virtual std::span<std::byte> buffer() = 0;

  // Emits the first `pages_in(runs)` pages of the buffer as the pages of `runs`: ascending, at most max_runs.
  // Returns the sequence of the frame, 0 where frames have none.
  virtual std::uint64_t pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs) = 0;
  // Pages that are all zero, without their content. To live sinks only: in images, which have their pages in order,
  // they are pages among the others.
  virtual std::uint64_t zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) = 0;
  virtual std::uint64_t drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) = 0;

  // A state image, whole; split as needed.
  virtual std::uint64_t file(std::string_view name, std::string_view content) = 0;
  virtual std::uint64_t end_round() = 0;

  virtual void set_round(std::uint32_t round) = 0;
  virtual std::uint64_t last_sequence() const = 0;

  // A stream to a destination that is being built: it takes a page any number of times, and says what it has stored
  // (Dump::acknowledged). Images take a page once.
  virtual bool live() const { return false; }
  virtual void wait() {}  // a moment, for the destination to say so
  // Of monotonic_ns(): from then on a live one throws TooSlow instead of waiting or beginning a frame; 0: never.
  virtual void set_deadline(std::uint64_t) {}
};

}  // namespace godwit::engine
