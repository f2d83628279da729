#include "common/net/crypto_library.h"

#include "common/base/error.h"
#include "common/net/aes_gcm_provider.h"
#include "common/net/openssl.h"

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

// AES-128-GCM first: the fastest where there are AES instructions, and the page path is bound by it. GnuTLS has it too.
constexpr const char* cipher_suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr long read_buffer = 128 * 1024;

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

SSL_CTX* new_tls_context() {
  const CryptoLibrary& library = crypto_library();
  SSL_CTX* const ctx = SSL_CTX_new_ex(library.context, library.properties, TLS_method());
  if (!ctx) fail(Errc::internal, "make a TLS context: {}", openssl_reason());
  SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
  if (SSL_CTX_set_ciphersuites(ctx, cipher_suites) != 1) {
    SSL_CTX_free(ctx);
    fail(Errc::internal, "set cipher suites: {}", openssl_reason());
  }
  SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(ctx, 0);  // else a client that never reads stalls the server in its handshake
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  // Several records per recv() instead of two calls per record.
  SSL_CTX_set_read_ahead(ctx, 1);
  SSL_CTX_set_default_read_buffer_len(ctx, read_buffer);
  return ctx;
}

}  // namespace godwit::net
