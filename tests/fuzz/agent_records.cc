// The agent's record file: a head page, or one copy of a record. The checksum is put right first: what is looked at is
// what lies behind it.
#include "agent/service/record_format.h"
#include "tests/fuzz/fuzz.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace godwit {

using namespace service;

namespace {

// Of the first `covered` bytes, in which the first eight are the checksum of the others.
void put_checksum(std::span<std::byte> bytes, std::size_t covered) {
  const std::uint64_t sum = XXH3_64bits(bytes.data() + sizeof sum, covered - sizeof sum);
  std::memcpy(bytes.data(), &sum, sizeof sum);
}

constexpr std::size_t head_covered = 64;

}  // namespace

void fuzz(std::string_view input) {
  const auto bytes = std::as_bytes(std::span(input));
  if (bytes.size() >= copy_size) {
    CopyBytes copy;
    std::ranges::copy(bytes.first<copy_size>(), copy.begin());
    put_checksum(copy, copy.size());
    if (const auto stored = decode_copy(copy)) {
      const auto again = decode_copy(encode_copy(*stored));
      require(again && again->counter == stored->counter && again->record.key == stored->record.key);
    }
  } else {
    std::array<std::byte, head_size> page{};
    std::ranges::copy(bytes, page.begin());
    put_checksum(page, head_covered);
    const Head head = decode_head(page);
    require(decode_head(encode_head(head.uuid, head.slots)).uuid == head.uuid);
  }
}

}  // namespace godwit
