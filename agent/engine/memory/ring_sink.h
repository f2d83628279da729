// Frames into the shared ring: the agent sends them straight from there.
#pragma once

#include "agent/engine/memory/page_sink.h"
#include "common/pagewire/ring.h"

#include <chrono>
#include <functional>

namespace godwit::engine {

class RingSink : public PageSink {
 public:
  // `seed` is the migration's checksum secret. `idle` answers control messages and waits for one as long as it is told
  // to; it runs while the ring is full, and may throw to give up.
  using Idle = std::function<void(std::chrono::milliseconds)>;
  RingSink(pagewire::Ring& ring, std::uint64_t seed, Idle idle);

  std::span<std::byte> buffer() override;
  std::uint64_t pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  std::uint64_t zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  std::uint64_t drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  std::uint64_t file(std::string_view name, std::string_view content) override;
  std::uint64_t end_round() override;
  void set_round(std::uint32_t round) override { round_ = round; }
  std::uint64_t last_sequence() const override { return sequence_; }
  bool live() const override { return true; }
  void wait() override;
  void set_deadline(std::uint64_t at_ns) override { deadline_ns_ = at_ns; }

 private:
  std::span<std::byte> reserve();
  void wait(std::chrono::milliseconds limit);
  std::uint64_t emit(pagewire::FrameHeader header, std::span<const std::byte> trailer, std::size_t payload);

  pagewire::Ring& ring_;
  std::uint64_t seed_;
  Idle idle_;
  std::span<std::byte> reserved_;  // room for the largest frame, or empty
  std::uint64_t sequence_ = 0;
  std::uint32_t round_ = 0;
  std::uint64_t deadline_ns_ = 0;
};

}  // namespace godwit::engine
