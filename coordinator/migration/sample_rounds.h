// Rounds for tests of the policy.
#pragma once

#include "coordinator/migration/migration.h"

namespace godwit::coordinator {

inline constexpr double mib = 1 << 20;

inline RoundRecord sent(double mebibytes, double seconds, double left) {
  return {.bytes = static_cast<std::uint64_t>(mebibytes * mib),
          .seconds = seconds,
          .dirty_bytes_after = static_cast<std::uint64_t>(left * mib)};
}

// At 500 MiB/s, all of it dirty again.
inline RoundRecord left(double mebibytes) {
  const auto bytes = static_cast<std::uint64_t>(mebibytes * mib);
  return {.bytes = bytes, .seconds = mebibytes / 500, .dirty_bytes_after = bytes};
}

}  // namespace godwit::coordinator
