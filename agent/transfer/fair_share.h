// One rate for all who send, and what each gets of it. Pure.
#pragma once

#include <cstdint>
#include <vector>

namespace godwit::transfer {

// Bytes per second for each of those who have these limits of their own (0: none), together at most `cap` (0: none):
// who wants less than an equal part gets what he wants, and the others share the rest equally.
std::vector<std::uint64_t> fair_shares(std::uint64_t cap, const std::vector<std::uint64_t>& limits);

}  // namespace godwit::transfer
