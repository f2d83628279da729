// Takes the bytes of one page stream apart: which of them are payload, and which frames are complete.
//
// Pure: no I/O, keeps at most one frame's header and trailer. The bytes are hostile; whatever it accepts is within
// the bounds of frame.h, sequences ascend, and every frame says that it belongs to this stream.
#pragma once

#include "common/pagewire/frame.h"

#include <array>
#include <span>
#include <vector>

namespace godwit::pageserver {

class FrameSplitter {
 public:
  using Piece = std::span<const std::byte>;

  explicit FrameSplitter(std::uint32_t stream) : stream_(stream) {}

  // Consumes bytes until they end, or `pieces` add up to `allowance` (a payload's padding to a page may exceed
  // it), or the end of a round has been reached. Returns how many were consumed. The pieces refer to `bytes`.
  std::size_t take(std::span<const std::byte> bytes, std::uint64_t allowance, std::vector<Piece>& pieces);

  bool between_frames() const { return part_ == Part::header && have_ == 0; }
  bool round_ended() const { return round_ended_; }     // by the last take()
  std::uint64_t sequence() const { return sequence_; }  // of the last complete frame; 0: none
  std::uint64_t frames() const { return frames_; }      // complete ones

 private:
  enum class Part { header = 1, trailer, payload };

  std::size_t advance(std::vector<Piece>& pieces);

  std::uint32_t stream_;
  Part part_ = Part::header;
  std::array<std::byte, sizeof(pagewire::FrameHeader)> head_{};
  std::size_t have_ = 0;  // of head_
  pagewire::FrameHeader header_;
  std::size_t trailer_left_ = 0, payload_left_ = 0;
  std::uint64_t sequence_ = 0, frames_ = 0;
  bool round_ended_ = false;
};

}  // namespace godwit::pageserver
