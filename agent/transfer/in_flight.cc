#include "agent/transfer/in_flight.h"

#include <algorithm>

namespace godwit::transfer {

void InFlight::add(std::uint32_t stream, std::uint64_t sequence) {
  frames_.push_back({sequence, stream});
  streams_[stream].added = sequence;
}

bool InFlight::done(std::uint32_t stream, std::uint64_t sequence) {
  Stream& s = streams_[stream];
  if (sequence > s.added) return false;
  s.done = std::max(s.done, sequence);
  return true;
}

std::optional<std::uint64_t> InFlight::take_first() {
  if (frames_.empty() || frames_.front().sequence > streams_[frames_.front().stream].done) return {};
  const std::uint64_t sequence = frames_.front().sequence;
  frames_.pop_front();
  return sequence;
}

}  // namespace godwit::transfer
