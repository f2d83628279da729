// A dump that a holder writes for a command. When the command has gone, by Ctrl-C for one, nobody wants it any more:
// nothing further is written, and save() fails, as when the disk is full. The scan comes to its end, so that what it
// found can be owed.
#pragma once

#include "agent/engine/memory/dump_sink.h"

#include <exception>
#include <functional>
#include <memory>

namespace godwit::engine::commands {

// Throws when nobody waits any more.
using StillWanted = std::function<void()>;

class WatchedSink : public DumpSink {
 public:
  WatchedSink(std::unique_ptr<DumpSink> sink, StillWanted still_wanted)
      : sink_(std::move(sink)), still_wanted_(std::move(still_wanted)) {}

  std::span<std::byte> buffer() override { return sink_->buffer(); }
  std::uint64_t pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  std::uint64_t drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override;
  std::uint64_t file(std::string_view name, std::string_view content) override;
  std::uint64_t end_round() override;
  void set_round(std::uint32_t round) override { sink_->set_round(round); }
  std::uint64_t last_sequence() const override { return skipped_ + sink_->last_sequence(); }

  image::ImageSet& images() override { return sink_->images(); }
  void save(const HeldPages& held, Storage storage) override;
  void close() override { sink_->close(); }
  std::set<std::string> freed_in() override { return sink_->freed_in(); }

 private:
  bool wanted();

  std::unique_ptr<DumpSink> sink_;
  StillWanted still_wanted_;
  std::exception_ptr gone_;
  std::uint64_t skipped_ = 0;  // frames
};

}  // namespace godwit::engine::commands
