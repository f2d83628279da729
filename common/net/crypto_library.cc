#include "common/net/crypto_library.h"

#include "common/net/aes_gcm_provider.h"

#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>

namespace godwit::net {
namespace {

bool furnish(OSSL_LIB_CTX* context) {
  // As OpenSSL does for the default context. A machine that has its cryptography from somewhere else (FIPS) keeps to
  // that.
  constexpr unsigned long flags = CONF_MFLAGS_DEFAULT_SECTION | CONF_MFLAGS_IGNORE_MISSING_FILE;
  if (CONF_modules_load_file_ex(context, nullptr, nullptr, flags) <= 0) return false;
  if (OSSL_PROVIDER_available(context, "default") != 1) return false;
  return OSSL_PROVIDER_add_builtin(context, "godwit", aes_gcm_provider) == 1 && OSSL_PROVIDER_load(context, "godwit");
}

CryptoLibrary choose() {
  OPENSSL_init_ssl(0, nullptr);  // makes known what can stand in openssl.cnf
  ERR_set_mark();
  OSSL_LIB_CTX* context = OSSL_LIB_CTX_new();
  const bool ours = context && furnish(context);
  ERR_pop_to_mark();
  if (ours)
    return {.context = context, .properties = "?provider=godwit"};  // the question mark: others if that has it not
  OSSL_LIB_CTX_free(context);
  return {};
}

}  // namespace

const CryptoLibrary& crypto_library() {
  static const CryptoLibrary chosen = choose();
  return chosen;
}

}  // namespace godwit::net
