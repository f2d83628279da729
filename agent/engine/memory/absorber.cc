#include "agent/engine/memory/absorber.h"

#include "common/base/check.h"

#include <fcntl.h>

namespace godwit::engine {
namespace {
// Punching a range costs a call; a megabyte at a time is cheap and keeps the spool small.
constexpr std::uint64_t punch_step = 1u << 20;
}  // namespace

Absorber::Absorber(UniqueFd spool_directory, std::uint64_t seed)
    : directory_(std::move(spool_directory)), seed_(seed), copy_(pagewire::max_payload) {}

void Absorber::manifest(std::string_view entries) {
  for (pagewire::ManifestEntry& e : pagewire::parse_manifest(entries)) {
    if (e.header.sequence != queued_ + 1)
      fail(Errc::protocol, "frame {} announced where frame {} is next", e.header.sequence, queued_ + 1);
    queued_ = e.header.sequence;
    queue_.push_back(std::move(e));
  }
}

Absorber::Stream& Absorber::stream(std::uint32_t number) { return streams_[number]; }

void Absorber::stored(std::uint32_t number, std::uint64_t upto) {
  Stream& s = stream(number);
  s.stored = std::max(s.stored, upto);
}

std::size_t Absorber::absorb(FrameTarget& target, std::size_t most) {
  std::size_t done = 0;
  while (done < most && !queue_.empty()) {
    const pagewire::ManifestEntry& e = queue_.front();
    if (e.header.payload_length && stream(e.header.stream).stored < e.offset + e.header.payload_length) break;
    apply(e, target);
    absorbed_ = e.header.sequence;
    queue_.pop_front();
    done++;
  }
  return done;
}

void Absorber::apply(const pagewire::ManifestEntry& e, FrameTarget& target) {
  Doing doing("frame {} of round {}", e.header.sequence, e.header.round);
  const std::span<std::byte> data(copy_.data(), e.header.payload_length);
  if (!data.empty()) {
    Stream& s = stream(e.header.stream);
    if (!s.file) s.file = open_beneath(directory_.get(), fmt::format("stream-{}", e.header.stream), O_RDWR);
    pread_exact(s.file.get(), data, static_cast<off_t>(e.offset));
    s.used = e.offset + e.header.payload_length;
  }
  const std::span<const std::byte> trailer =
      e.header.kind == pagewire::FrameKind::file ? std::as_bytes(std::span(e.name)) : std::as_bytes(std::span(e.runs));
  if (pagewire::checksum(seed_, e.header, trailer, data) != e.header.checksum)
    fail(Errc::image_corrupt, "checksum mismatch in stream-{} at offset {}", e.header.stream, e.offset);
  switch (e.header.kind) {
    case pagewire::FrameKind::pages: target.pages(e.header.object, e.runs, data); break;
    case pagewire::FrameKind::zero: target.zero(e.header.object, e.runs); break;
    case pagewire::FrameKind::drop: target.drop(e.header.object, e.runs); break;
    case pagewire::FrameKind::file:
      target.file(e.name, e.header.object, data, e.header.flags & pagewire::last_part);
      break;
    case pagewire::FrameKind::round: target.round_ended(e.header.round); break;
  }
}

std::vector<Absorber::Freed> Absorber::freed() {
  std::vector<Freed> out;
  for (auto& [number, s] : streams_) {
    const bool rest = queue_.empty() && s.used > s.punched;
    if (s.used - s.punched < punch_step && !rest) continue;
    check(::fallocate(s.file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(s.punched),
                      static_cast<off_t>(s.used - s.punched)),
          "punch stream-{}", number);
    s.punched = s.used;
    out.push_back({number, s.used});
  }
  return out;
}

}  // namespace godwit::engine
