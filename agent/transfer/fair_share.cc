#include "agent/transfer/fair_share.h"

#include <algorithm>
#include <numeric>

namespace godwit::transfer {

std::vector<std::uint64_t> fair_shares(std::uint64_t cap, const std::vector<std::uint64_t>& limits) {
  if (cap == 0) return limits;
  std::vector<std::size_t> order(limits.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::stable_sort(order,
                           [&](std::size_t a, std::size_t b) { return limits[a] - 1 < limits[b] - 1; });  // 0 last
  std::vector<std::uint64_t> shares(limits.size());
  std::uint64_t rest = cap, waiting = limits.size();
  for (const std::size_t i : order) {
    const std::uint64_t equal = std::max<std::uint64_t>(rest / waiting, 1);  // 0 would be no limit at all
    shares[i] = limits[i] == 0 ? equal : std::min(limits[i], equal);
    rest -= std::min(rest, shares[i]);
    waiting--;
  }
  return shares;
}

}  // namespace godwit::transfer
