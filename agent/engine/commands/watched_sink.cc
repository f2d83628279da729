#include "agent/engine/commands/watched_sink.h"

namespace godwit::engine::commands {

// Whether the next frame is written; it is counted all the same.
bool WatchedSink::wanted() {
  if (!gone_) try {
      still_wanted_();
      return true;
    } catch (...) {
      gone_ = std::current_exception();
    }
  skipped_++;
  return false;
}

std::uint64_t WatchedSink::pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  if (wanted()) sink_->pages(object, runs);
  return last_sequence();
}

std::uint64_t WatchedSink::drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) {
  if (wanted()) sink_->drop(object, runs);
  return last_sequence();
}

std::uint64_t WatchedSink::file(std::string_view name, std::string_view content) {
  if (wanted()) sink_->file(name, content);
  return last_sequence();
}

std::uint64_t WatchedSink::end_round() {
  sink_->end_round();
  return last_sequence();
}

void WatchedSink::save(const HeldPages& held, Storage storage) {
  if (!wanted()) std::rethrow_exception(gone_);
  sink_->save(held, storage);
}

}  // namespace godwit::engine::commands
