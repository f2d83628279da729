// How the record file looks on disk: one page of head, then slots of two copies each.
#pragma once

#include "agent/service/records.h"

#include <array>
#include <optional>
#include <string>

namespace godwit::service {

inline constexpr std::size_t copy_size = 512;  // a sector: torn only by hardware that tears sectors
inline constexpr std::size_t slot_size = 2 * copy_size;
inline constexpr std::size_t head_size = 4096;

using CopyBytes = std::array<std::byte, copy_size>;

struct StoredCopy {
  std::uint64_t counter = 0;
  Record record;
};

CopyBytes encode_copy(const StoredCopy& copy);  // Errc::invalid_argument when a name is too long
std::optional<StoredCopy> decode_copy(std::span<const std::byte, copy_size> bytes);  // nothing: damaged or blank
bool is_blank(std::span<const std::byte> bytes);

std::array<std::byte, head_size> encode_head(const std::string& uuid, std::size_t slots);
struct Head {
  std::string uuid;
  std::size_t slots = 0;
};
Head decode_head(std::span<const std::byte, head_size> bytes);  // Errc::image_corrupt

}  // namespace godwit::service
