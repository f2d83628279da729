// What the client writes: the value of a key is a function of (seed, key, version), so that a log of versions is enough
// to know every byte that redis must hold. Values are incompressible and begin with the key and version they belong to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace godwit::demo {

// Versions count writes over the whole run, from 1; version 0 is the value that `load` wrote.
struct Write {
  std::uint32_t key = 0;
  std::uint64_t version = 0;

  bool operator==(const Write&) const = default;
};

class Values {
 public:
  static constexpr std::size_t least_size = 16;

  Values(std::uint64_t seed, std::size_t size);

  std::size_t size() const { return size_; }
  void fill(Write write, std::span<char> into) const;  // into.size() == size()
  std::string make(Write write) const;

  // Which write a value comes from; nothing when it is not, byte for byte, one of this run.
  std::optional<Write> recognise(std::string_view value) const;

 private:
  std::uint64_t seed_;
  std::size_t size_;
};

std::string key_name(std::uint32_t key);  // "key:0000000042"

}  // namespace godwit::demo
