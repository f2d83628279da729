#include "agent/engine/memory/absorber.h"

#include "common/base/check.h"
#include "common/pagewire/wire.h"

#include <fcntl.h>

namespace godwit::engine {
namespace {
// Telling the page server costs messages, so it is told of a megabyte at a time.
constexpr std::uint64_t free_step = 1u << 20;

std::uint64_t size_of(const pagewire::ManifestEntry& e) {
  return sizeof e + e.runs.size() * sizeof(pagewire::Run) + e.name.size();
}
}  // namespace

Absorber::Absorber(UniqueFd spool_directory, std::uint64_t seed, std::uint64_t window)
    : directory_(std::move(spool_directory)), seed_(seed), window_(window), copy_(pagewire::max_payload) {
  if (window_ && window_ < pagewire::max_payload) fail(Errc::invalid_argument, "a spool window of {} bytes", window_);
}

void Absorber::manifest(std::string_view entries) {
  for (pagewire::ManifestEntry& e : pagewire::parse_manifest(entries)) {
    if (e.header.sequence != queued_ + 1)
      fail(Errc::protocol, "frame {} announced where frame {} is next", e.header.sequence, queued_ + 1);
    if (e.header.stream >= pagewire::max_streams || e.offset > ~std::uint64_t{0} - e.header.payload_length)
      fail(Errc::protocol, "frame {} in stream {} at {}", e.header.sequence, e.header.stream, e.offset);
    queued_ = e.header.sequence;
    queued_bytes_ += size_of(e);
    if (queued_bytes_ > most_queued) fail(Errc::protocol, "frame {} is announced too far ahead", queued_);
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
  while (done < most && !starved()) {
    const pagewire::ManifestEntry& e = queue_.front();
    apply(e, target);
    absorbed_ = e.header.sequence;
    queued_bytes_ -= size_of(e);
    queue_.pop_front();
    done++;
  }
  return done;
}

std::span<std::byte> Absorber::copy_payload(const pagewire::ManifestEntry& e) {
  const std::span<std::byte> data(copy_.data(), e.header.payload_length);
  if (data.empty()) return data;
  Stream& s = stream(e.header.stream);
  if (!s.file) s.file = open_beneath(directory_.get(), fmt::format("stream-{}", e.header.stream), O_RDONLY);
  const pagewire::SpoolPlace place = pagewire::spool_place(window_, e.offset, data.size());
  pread_exact(s.file.get(), data.first(place.first_length), static_cast<off_t>(place.first));
  pread_exact(s.file.get(), data.subspan(place.first_length), 0);
  s.used = e.offset + data.size();
  return data;
}

void Absorber::apply(const pagewire::ManifestEntry& e, FrameTarget& target) {
  Doing doing("frame {} of round {}", e.header.sequence, e.header.round);
  const std::span<const std::byte> data = copy_payload(e);
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

// Nothing more can be done with what is stored: the page server may be waiting for room.
bool Absorber::starved() {
  if (queue_.empty()) return true;
  const pagewire::ManifestEntry& e = queue_.front();
  return e.header.payload_length && stream(e.header.stream).stored < e.offset + e.header.payload_length;
}

std::vector<Absorber::Freed> Absorber::freed() {
  std::vector<Freed> out;
  const bool all = starved();
  for (auto& [number, s] : streams_) {
    if (s.used - s.freed < (all ? 1 : free_step)) continue;
    s.freed = s.used;
    out.push_back({number, s.used});
  }
  return out;
}

}  // namespace godwit::engine
