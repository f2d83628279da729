#include "common/net/tls.h"

#include "common/net/crypto_library.h"
#include "common/net/openssl.h"
#include "common/base/error.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace godwit::net {
namespace {

// AES-128-GCM first: the fastest on any machine with AES instructions, and the page path is bound by it.
constexpr const char* cipher_suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr long read_buffer = 128 * 1024;

SSL_CTX* new_context() {
  const CryptoLibrary& library = crypto_library();
  return SSL_CTX_new_ex(library.context, library.properties, TLS_method());
}

void configure(SSL_CTX* ctx) {
  SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
  SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION);
  if (SSL_CTX_set_ciphersuites(ctx, cipher_suites) != 1)
    fail(Errc::internal, "set cipher suites: {}", openssl_reason());
  SSL_CTX_set_options(ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(ctx, 0);  // else a client that never reads stalls the server in its handshake
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_verify_depth(ctx, 3);
  // Several records per recv() instead of two calls per record.
  SSL_CTX_set_read_ahead(ctx, 1);
  SSL_CTX_set_default_read_buffer_len(ctx, read_buffer);
}

}  // namespace

TlsContext::State::~State() { SSL_CTX_free(context); }

TlsContext TlsContext::load(const std::string& directory) {
  TlsContext tls;
  tls.state_ = std::make_shared<State>();
  SSL_CTX* ctx = tls.state_->context = new_context();
  if (!ctx) fail(Errc::internal, "make a TLS context: {}", openssl_reason());
  configure(ctx);
  const std::string ca = directory + "/ca.crt", certificate = directory + "/node.crt", key = directory + "/node.key";
  if (SSL_CTX_load_verify_locations(ctx, ca.c_str(), nullptr) != 1)
    fail(Errc::invalid_argument, "read {}: {}", ca, openssl_reason());
  if (SSL_CTX_use_certificate_chain_file(ctx, certificate.c_str()) != 1)
    fail(Errc::invalid_argument, "read {}: {}", certificate, openssl_reason());
  if (SSL_CTX_use_PrivateKey_file(ctx, key.c_str(), SSL_FILETYPE_PEM) != 1)
    fail(Errc::invalid_argument, "read {}: {}", key, openssl_reason());
  if (SSL_CTX_check_private_key(ctx) != 1) fail(Errc::invalid_argument, "{} does not belong to {}", key, certificate);
  const std::optional<Identity> self = identity_of(SSL_CTX_get0_certificate(ctx));
  if (!self)
    fail(Errc::invalid_argument, "{}: no URI spiffe://godwit/ROLE/NAME among the alternative names", certificate);
  tls.state_->self = *self;
  return tls;
}

}  // namespace godwit::net
