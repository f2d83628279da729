#include "agent/engine/memory/ring_sink.h"

#include "common/base/units.h"

#include <algorithm>
#include <cstring>

namespace godwit::engine {
namespace {
// Pages are read to where the payload of a frame with the most runs lies. With fewer runs the frame begins later in its
// record, so that the payload never moves.
constexpr std::size_t header_room = sizeof(pagewire::FrameHeader) + pagewire::max_runs * sizeof(pagewire::Run);
constexpr std::size_t largest = header_room + pagewire::max_payload;

// How long it waits for room before it looks at the rest of the world again.
constexpr std::chrono::milliseconds look_at_commands{100}, look_at_deadline{5};
}  // namespace

RingSink::RingSink(pagewire::Ring& ring, std::uint64_t seed, Idle idle)
    : ring_(ring), seed_(seed), idle_(std::move(idle)) {}

std::span<std::byte> RingSink::reserve() {
  while (reserved_.empty()) {
    wait(std::chrono::milliseconds(0));
    try {
      reserved_ = ring_.reserve(largest, deadline_ns_ > 0 ? look_at_deadline : look_at_commands);
    } catch (const Error& e) {
      if (e.errc() != Errc::timed_out) throw;
    }
  }
  return reserved_;
}

void RingSink::wait() { wait(std::chrono::milliseconds(5)); }

void RingSink::wait(std::chrono::milliseconds limit) {
  idle_(limit);
  if (deadline_ns_ > 0 && monotonic_ns() >= deadline_ns_) throw TooSlow();
}

std::span<std::byte> RingSink::buffer() { return reserve().subspan(header_room, pagewire::max_payload); }

std::uint64_t RingSink::emit(pagewire::FrameHeader header, std::span<const std::byte> trailer, std::size_t payload) {
  std::span<std::byte> room = reserve();
  header.sequence = ++sequence_;
  header.round = round_;
  header.payload_length = static_cast<std::uint32_t>(payload);
  const std::size_t front = sizeof header + trailer.size();
  const std::size_t begin = payload ? header_room - front : 0;
  header.checksum = pagewire::checksum(seed_, header, trailer, {room.data() + begin + front, payload});
  std::memcpy(room.data() + begin, &header, sizeof header);
  if (!trailer.empty()) std::memcpy(room.data() + begin + sizeof header, trailer.data(), trailer.size());
  ring_.commit(front + payload, begin);
  reserved_ = {};
  return header.sequence;
}

std::uint64_t RingSink::pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  pagewire::FrameHeader header;
  header.kind = pagewire::FrameKind::pages;
  header.object = object;
  header.runs = static_cast<std::uint16_t>(runs.size());
  return emit(header, std::as_bytes(runs), pagewire::pages_in(runs) * page_size);
}

std::uint64_t RingSink::zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  pagewire::FrameHeader header;
  header.kind = pagewire::FrameKind::zero;
  header.object = object;
  header.runs = static_cast<std::uint16_t>(runs.size());
  return emit(header, std::as_bytes(runs), 0);
}

std::uint64_t RingSink::drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  pagewire::FrameHeader header;
  header.kind = pagewire::FrameKind::drop;
  header.object = object;
  header.runs = static_cast<std::uint16_t>(runs.size());
  return emit(header, std::as_bytes(runs), 0);
}

std::uint64_t RingSink::file(std::string_view name, std::string_view content) {
  std::uint64_t offset = 0;
  do {
    const std::size_t part = std::min(content.size() - offset, pagewire::max_payload);
    std::memcpy(buffer().data(), content.data() + offset, part);
    pagewire::FrameHeader header;
    header.kind = pagewire::FrameKind::file;
    header.object = offset;
    header.name_length = static_cast<std::uint16_t>(name.size());
    header.flags = offset + part == content.size() ? pagewire::last_part : 0;
    emit(header, std::as_bytes(std::span(name)), part);
    offset += part;
  } while (offset < content.size());
  return sequence_;
}

std::uint64_t RingSink::end_round() {
  pagewire::FrameHeader header;
  header.kind = pagewire::FrameKind::round;
  return emit(header, {}, 0);
}

}  // namespace godwit::engine
