// A stream on which everything has been said already, and arrives in pieces.
#pragma once

#include "pageserver/criu/stream.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <span>
#include <string_view>

namespace godwit {

class SaidStream : public pageserver::criu::Stream {
 public:
  SaidStream(std::string_view bytes, std::size_t piece) : bytes_(std::as_bytes(std::span(bytes))), piece_(piece) {}

  std::size_t receive(std::span<std::byte> into, net::Deadline) override {
    const auto part = bytes_.first(std::min({bytes_.size(), into.size(), piece_}));
    std::ranges::copy(part, into.begin());
    bytes_ = bytes_.subspan(part.size());
    return part.size();
  }
  void send(std::span<const std::byte> data, net::Deadline) override {
    require(!data.empty());
    heard_ += data.size();
  }
  void part(net::Deadline) noexcept override {}

  std::size_t heard() const { return heard_; }

 private:
  std::span<const std::byte> bytes_;
  std::size_t piece_, heard_ = 0;
};

}  // namespace godwit
