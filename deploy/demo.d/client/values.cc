#include "deploy/demo.d/client/values.h"

#include "common/base/error.h"

#include <algorithm>
#include <cstring>

namespace godwit::demo {

namespace {

// SplitMix64: a counter run through a mixer with full avalanche; 8 bytes per step, no state to seed.
std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

}  // namespace

Values::Values(std::uint64_t seed, std::size_t size) : seed_(seed), size_(size) {
  if (size < least_size)
    fail(Errc::invalid_argument, "values of {} bytes are too small, at least {}", size, least_size);
}

void Values::fill(Write write, std::span<char> into) const {
  const std::uint64_t key = write.key;
  std::memcpy(into.data(), &key, 8);
  std::memcpy(into.data() + 8, &write.version, 8);
  std::uint64_t state = mix(seed_ ^ mix(key ^ mix(write.version)));
  for (std::size_t at = 16; at < into.size(); at += 8) {
    state += 0x9e3779b97f4a7c15u;
    const std::uint64_t word = mix(state);
    std::memcpy(into.data() + at, &word, std::min<std::size_t>(8, into.size() - at));
  }
}

std::string Values::make(Write write) const {
  std::string value(size_, '\0');
  fill(write, value);
  return value;
}

std::optional<Write> Values::recognise(std::string_view value) const {
  if (value.size() != size_) return std::nullopt;
  std::uint64_t key = 0;
  Write write;
  std::memcpy(&key, value.data(), 8);
  std::memcpy(&write.version, value.data() + 8, 8);
  if (key > UINT32_MAX) return std::nullopt;
  write.key = static_cast<std::uint32_t>(key);
  if (make(write) != value) return std::nullopt;
  return write;
}

std::string key_name(std::uint32_t key) { return fmt::format("key:{:010}", key); }

}  // namespace godwit::demo
