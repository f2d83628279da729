#include "agent/service/node_rate.h"

#include "agent/transfer/fair_share.h"

#include <utility>
#include <vector>

namespace godwit::service {

std::unique_ptr<NodeRate::Share> NodeRate::join(std::uint64_t limit, Apply apply) {
  std::unique_ptr<Share> share(new Share(shared_from_this(), limit, std::move(apply)));
  shares_.push_back(share.get());
  divide();
  return share;
}

void NodeRate::set_cap(std::uint64_t bytes_per_second) {
  cap_ = bytes_per_second;
  divide();
}

NodeRate::Share::~Share() {
  node_->shares_.remove(this);
  node_->divide();
}

void NodeRate::Share::set_limit(std::uint64_t bytes_per_second) {
  limit_ = bytes_per_second;
  node_->divide();
}

void NodeRate::divide() {
  std::vector<std::uint64_t> limits;
  for (const Share* share : shares_) limits.push_back(share->limit_);
  const std::vector<std::uint64_t> parts = transfer::fair_shares(cap_, limits);
  auto part = parts.begin();
  for (Share* share : shares_) {
    const std::uint64_t rate = *part++;
    if (std::exchange(share->told_once_, true) && share->told_ == rate) continue;
    share->told_ = rate;
    share->apply_(rate);
  }
}

}  // namespace godwit::service
