// How long something may take to stop.
#pragma once

#include "common/base/units.h"

#include <chrono>
#include <cstdint>

namespace godwit::engine {

// From now on.
struct StopLimit {
  StopLimit(std::chrono::milliseconds time) : limit(time) {}
  bool over() const { return monotonic_ns() - begun_ns > static_cast<std::uint64_t>(limit.count()) * 1'000'000; }

  std::chrono::milliseconds limit;
  std::uint64_t begun_ns = monotonic_ns();
};

}  // namespace godwit::engine
