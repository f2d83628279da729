// What a running copy calls itself: "<id>.<epoch>", of the migration that has made it.
#pragma once

#include <charconv>
#include <cstdint>
#include <string>

namespace godwit::coordinator {

// 0 when it says none.
inline std::uint64_t epoch_of(const std::string& copy) {
  const auto dot = copy.rfind('.');
  std::uint64_t epoch = 0;
  if (dot != std::string::npos) std::from_chars(copy.data() + dot + 1, copy.data() + copy.size(), epoch);
  return epoch;
}

}  // namespace godwit::coordinator
