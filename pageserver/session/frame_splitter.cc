#include "pageserver/session/frame_splitter.h"

#include "common/base/error.h"
#include "common/pagewire/wire.h"

#include <algorithm>
#include <cstring>

namespace godwit::pageserver {

using namespace pagewire;

namespace {

constexpr std::array<std::byte, page_size> zeros{};

}  // namespace

std::size_t FrameSplitter::take(std::span<const std::byte> bytes, std::uint64_t allowance, std::vector<Piece>& pieces) {
  round_ended_ = false;
  std::size_t consumed = 0;
  while (!round_ended_) {
    const std::span<const std::byte> rest = bytes.subspan(consumed);
    std::size_t n = 0;
    switch (part_) {
      case Part::header:
        n = std::min(rest.size(), head_.size() - have_);
        std::memcpy(head_.data() + have_, rest.data(), n);
        have_ += n;
        break;
      case Part::trailer:
        // Runs and names are for the engine, which gets them from the manifest and checks them there.
        n = std::min(rest.size(), trailer_left_);
        trailer_left_ -= n;
        break;
      case Part::payload:
        n = std::min({rest.size(), payload_left_, static_cast<std::size_t>(allowance)});
        if (n > 0) pieces.push_back(rest.first(n));
        payload_left_ -= n;
        allowance -= n;
        break;
    }
    if (n == 0) break;
    consumed += n;
    const std::size_t padding = advance(pieces);
    allowance -= std::min<std::uint64_t>(allowance, padding);
  }
  return consumed;
}

// Steps over every part that is complete, or empty. Returns the length of the padding, when a payload has ended.
std::size_t FrameSplitter::advance(std::vector<Piece>& pieces) {
  if (part_ == Part::header) {
    if (have_ < head_.size()) return 0;
    header_ = parse_header(head_);
    if (header_.stream != stream_) fail(Errc::protocol, "a frame of stream {} on stream {}", header_.stream, stream_);
    if (header_.sequence <= sequence_) fail(Errc::protocol, "frame {} after frame {}", header_.sequence, sequence_);
    trailer_left_ = trailer_length(header_);
    payload_left_ = header_.payload_length;
    part_ = Part::trailer;
  }
  if (part_ == Part::trailer && trailer_left_ == 0) part_ = Part::payload;
  if (part_ != Part::payload || payload_left_ > 0) return 0;
  part_ = Part::header;
  have_ = 0;
  sequence_ = header_.sequence;
  ++frames_;
  round_ended_ = header_.kind == FrameKind::round;
  const std::size_t padding = next_offset(header_.payload_length) - header_.payload_length;
  if (padding > 0) pieces.push_back(Piece(zeros).first(padding));
  return padding;
}

}  // namespace godwit::pageserver
