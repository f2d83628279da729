#include "agent/service/token.h"

#include "common/base/check.h"

#include <openssl/crypto.h>
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

bool is_token_of(std::string_view token, const TokenBytes& hash) {
  const TokenBytes actual = sha256(token);
  return token.size() == hash.size() && ::CRYPTO_memcmp(actual.data(), hash.data(), hash.size()) == 0;
}

}  // namespace godwit::service
