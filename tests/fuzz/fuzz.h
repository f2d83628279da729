// What every fuzz target defines. An Error is an answer; anything else that leaves it (another exception, a
// sanitizer's report, a failed `require`) is a bug.
#pragma once

#include <cstdlib>
#include <string_view>

namespace godwit {

void fuzz(std::string_view input);

inline void require(bool invariant) {
  if (!invariant) std::abort();
}

}  // namespace godwit
