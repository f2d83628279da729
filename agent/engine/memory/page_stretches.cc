#include "agent/engine/memory/page_stretches.h"

#include "common/base/units.h"

#include <algorithm>

namespace godwit::engine {
namespace {

constexpr std::uint64_t most_pages = (4u << 20) / page_size;

bool follows(const image::PageSource& next, const image::PageSource& before) {
  return next.fd == before.fd && next.offset == before.offset + static_cast<off_t>(before.pages * page_size);
}

}  // namespace

std::span<const image::PageSource> PageStretches::next() {
  parts_.clear();
  for (std::uint64_t room = most_pages; room > 0;) {
    if (!ahead_) ahead_ = reader_.next();
    if (!ahead_ || (!parts_.empty() && !follows(*ahead_, parts_.back()))) break;
    const std::uint64_t pages = std::min(ahead_->pages, room);
    parts_.push_back(*ahead_);
    parts_.back().pages = pages;
    room -= pages;
    if (pages == ahead_->pages) {
      ahead_.reset();
      continue;
    }
    ahead_->vaddr += pages * page_size;
    ahead_->offset += static_cast<off_t>(pages * page_size);
    ahead_->pages -= pages;
  }
  return parts_;
}

}  // namespace godwit::engine
