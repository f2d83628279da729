#include "common/net/tls.h"

#include "common/net/crypto_library.h"
#include "common/net/openssl.h"
#include "common/base/error.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

namespace godwit::net {
namespace {

void configure(SSL_CTX* ctx) {
  SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION);
  SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE);
  SSL_CTX_set_verify_depth(ctx, 3);
}

}  // namespace

TlsContext::State::~State() { SSL_CTX_free(context); }

TlsContext TlsContext::load(const std::string& directory) {
  TlsContext tls;
  tls.state_ = std::make_shared<State>();
  SSL_CTX* ctx = tls.state_->context = new_tls_context();
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
