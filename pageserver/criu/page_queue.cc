#include "pageserver/criu/page_queue.h"

namespace godwit::pageserver::criu {
namespace {

constexpr std::size_t worth_writing = 256u << 10;
constexpr std::size_t pieces_at_once = 256;

}  // namespace

void PageQueue::add(std::span<const std::byte> pages) {
  gathered_.push_back(pages);
  gathered_bytes_ += pages.size();
  if (gathered_bytes_ >= worth_writing || gathered_.size() == pieces_at_once) hand_over();
}

void PageQueue::hand_over() {
  if (gathered_.empty()) return;
  writing_.push_back(writer_.run([this, pieces = std::move(gathered_)] { images_.append(pieces); }));
  gathered_.clear();
  gathered_bytes_ = 0;
  handed_over_++;
}

// Each is asked how it went: one that failed must not be forgotten for those behind it.
void PageQueue::wait_for(std::size_t count) {
  for (; written_ < count; written_++) {
    std::future<void> oldest = std::move(writing_.front());
    writing_.pop_front();
    oldest.get();
  }
}

void PageQueue::release(std::size_t full, std::size_t wanted) {
  hand_over();
  last_of_[full] = handed_over_;
  wait_for(last_of_[wanted]);
}

void PageQueue::drain() {
  hand_over();
  wait_for(handed_over_);
}

void PageQueue::settle() noexcept {
  for (std::future<void>& one : writing_) one.wait();
}

}  // namespace godwit::pageserver::criu
