// One-time tokens: 32 random bytes, known to the other side by their SHA-256 until they are used; and what is derived from
// such bytes.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace godwit::service {

using TokenBytes = std::array<std::uint8_t, 32>;

TokenBytes random_token();
TokenBytes sha256(std::string_view bytes);
inline std::string_view text_of(const TokenBytes& token) {
  return {reinterpret_cast<const char*>(token.data()), token.size()};
}
bool equal_in_constant_time(std::string_view a, std::string_view b);

// HMAC-SHA256. A secret makes several keys that tell nothing of each other: the hash of the name of each.
TokenBytes keyed_hash(const TokenBytes& key, std::string_view bytes);

bool is_token_of(std::string_view token, const TokenBytes& hash);  // in constant time

}  // namespace godwit::service
