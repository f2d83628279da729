#include "agent/transfer/rate_limit.h"

#include <algorithm>

namespace godwit::transfer {
namespace {

constexpr auto burst = std::chrono::milliseconds(20);  // what an idle sender may catch up with

Clock::duration time_for(std::uint64_t bytes, std::uint64_t rate) {
  return std::chrono::duration_cast<Clock::duration>(
      std::chrono::duration<double>(static_cast<double>(bytes) / static_cast<double>(rate)));
}

}  // namespace

Clock::time_point RateLimit::set(std::uint64_t bytes_per_second, Clock::time_point now) {
  if (rate_ != 0 && bytes_per_second != 0 && at_ > now) {
    const double factor = static_cast<double>(rate_) / static_cast<double>(bytes_per_second);
    at_ = now + std::chrono::duration_cast<Clock::duration>((at_ - now) * factor);
  } else {
    at_ = now;
  }
  rate_ = bytes_per_second;
  return at_;
}

Clock::time_point RateLimit::spend(std::uint64_t bytes, Clock::time_point now) {
  if (rate_ == 0) return now;
  at_ = std::max(at_, now - burst) + time_for(bytes, rate_);
  return at_;
}

}  // namespace godwit::transfer
