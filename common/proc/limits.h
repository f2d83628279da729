// /proc/PID/limits: the limits of another process without CAP_SYS_RESOURCE (prlimit gives EPERM there).
// Errors: Errc::internal, also when one of the 16 is missing.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include <sys/resource.h>

namespace godwit::proc {

struct Limit {
  std::uint64_t soft = 0;  // RLIM_INFINITY: unlimited
  std::uint64_t hard = 0;
  bool operator==(const Limit&) const = default;
};

using Limits = std::array<Limit, 16>;  // index: RLIMIT_*

Limits parse_limits(std::string_view text);

}  // namespace godwit::proc
