// Frames on their way over several streams, in sequence order: each stream reports its own progress, and what
// counts is the prefix that all of them have done.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

namespace godwit::transfer {

class InFlight {
 public:
  explicit InFlight(std::size_t streams) : streams_(streams) {}

  void add(std::uint32_t stream, std::uint64_t sequence);
  // The stream has done its frames up to `sequence`. False: it never had such a frame.
  bool done(std::uint32_t stream, std::uint64_t sequence);
  // Removes the first frame if it is done, and returns its sequence.
  std::optional<std::uint64_t> take_first();
  bool empty() const { return frames_.empty(); }

 private:
  struct Frame {
    std::uint64_t sequence;
    std::uint32_t stream;
  };
  struct Stream {
    std::uint64_t added = 0, done = 0;
  };
  std::deque<Frame> frames_;
  std::vector<Stream> streams_;
};

}  // namespace godwit::transfer
