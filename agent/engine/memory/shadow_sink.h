// For tests: what a receiver would have.
#pragma once

#include "agent/engine/memory/page_set.h"
#include "agent/engine/memory/page_sink.h"

#include <array>
#include <cstring>
#include <unordered_map>
#include <vector>

namespace godwit::engine {

// A receiver that keeps everything in memory.
class Shadow : public PageSink {
 public:
  std::span<std::byte> buffer() override { return buffer_; }
  std::uint64_t pages(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override {
    const std::byte* from = buffer_.data();
    for (const pagewire::Run& r : runs)
      for (std::uint64_t i = 0; i < r.pages; i++, from += page_size)
        std::memcpy(content_[object][r.address + i * page_size].data(), from, page_size);
    return ++sequence_;
  }
  std::uint64_t zero(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override {
    for (const pagewire::Run& r : runs)
      for (std::uint64_t i = 0; i < r.pages; i++) content_[object][r.address + i * page_size].fill(std::byte{});
    return ++sequence_;
  }
  std::uint64_t drop(pagewire::ObjectId object, std::span<const pagewire::Run> runs) override {
    for (const pagewire::Run& r : runs)
      for (std::uint64_t i = 0; i < r.pages; i++) content_[object].erase(r.address + i * page_size);
    return ++sequence_;
  }
  std::uint64_t file(std::string_view, std::string_view) override { return ++sequence_; }
  std::uint64_t end_round() override { return ++sequence_; }
  void set_round(std::uint32_t) override {}
  std::uint64_t last_sequence() const override { return sequence_; }

  const std::array<std::byte, page_size>* find(pagewire::ObjectId object, std::uint64_t page) const {
    const auto o = content_.find(object);
    if (o == content_.end()) return nullptr;
    const auto p = o->second.find(page);
    return p == o->second.end() ? nullptr : &p->second;
  }
  void add_held(pagewire::ObjectId object, std::uint64_t start, std::uint64_t end, PageSet& into) const {
    for (const auto& [page, content] : content_.at(object))
      if (page >= start && page < end) into.add(page, page + page_size);
  }

 private:
  std::vector<std::byte> buffer_ = std::vector<std::byte>(pagewire::max_payload);
  std::unordered_map<pagewire::ObjectId, std::unordered_map<std::uint64_t, std::array<std::byte, page_size>>> content_;
  std::uint64_t sequence_ = 0;
};

}  // namespace godwit::engine
