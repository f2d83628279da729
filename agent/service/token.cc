#include "agent/service/token.h"

#include "common/base/check.h"

#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <sys/random.h>

namespace godwit::service {

TokenBytes random_token() {
  TokenBytes token;
  check(::getrandom(token.data(), token.size(), 0), "get random bytes");
  return token;
}

TokenBytes sha256(std::string_view bytes) {
  TokenBytes hash;
  ::SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), hash.data());
  return hash;
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && ::CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

TokenBytes keyed_hash(const TokenBytes& key, std::string_view bytes) {
  TokenBytes hash;
  unsigned length = hash.size();
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  if (!::HMAC(::EVP_sha256(), key.data(), static_cast<int>(key.size()), data, bytes.size(), hash.data(), &length))
    fail(Errc::internal, "cannot compute a keyed hash");
  return hash;
}

bool is_token_of(std::string_view token, const TokenBytes& hash) {
  return token.size() == hash.size() && equal_in_constant_time(text_of(sha256(token)), text_of(hash));
}

}  // namespace godwit::service
