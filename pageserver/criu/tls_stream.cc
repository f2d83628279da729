#include "pageserver/criu/tls_stream.h"

#include "common/base/waiting.h"
#include "common/net/crypto_library.h"
#include "common/net/openssl.h"

#include <algorithm>
#include <climits>

#include <arpa/inet.h>
#include <openssl/x509v3.h>
#include <poll.h>

namespace godwit::pageserver::criu {
namespace {

void load(SSL_CTX* ctx, const TlsFiles& files) {
  const auto must = [](bool loaded, const std::string& file) {
    if (!loaded) fail(Errc::invalid_argument, "read {}: {}", file, net::openssl_reason());
  };
  must(SSL_CTX_load_verify_locations(ctx, files.ca.c_str(), nullptr) == 1, files.ca);
  must(SSL_CTX_use_certificate_chain_file(ctx, files.certificate.c_str()) == 1, files.certificate);
  must(SSL_CTX_use_PrivateKey_file(ctx, files.key.c_str(), SSL_FILETYPE_PEM) == 1, files.key);
  if (SSL_CTX_check_private_key(ctx) != 1)
    fail(Errc::invalid_argument, "{} does not belong to {}", files.key, files.certificate);
  if (files.revoked.empty()) return;
  X509_STORE* store = SSL_CTX_get_cert_store(ctx);
  must(X509_load_crl_file(X509_STORE_add_lookup(store, X509_LOOKUP_file()), files.revoked.c_str(), X509_FILETYPE_PEM) >
           0,
       files.revoked);
  X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
}

bool is_number(const std::string& name) {
  in6_addr ignored{};
  return ::inet_pton(AF_INET, name.c_str(), &ignored) == 1 || ::inet_pton(AF_INET6, name.c_str(), &ignored) == 1;
}

void expect_name(SSL* ssl, const std::string& name) {
  if (name.empty()) return;
  const bool set = is_number(name) ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name.c_str()) == 1
                                   : SSL_set1_host(ssl, name.c_str()) == 1;
  if (!set) fail(Errc::invalid_argument, "'{}' cannot be a name in a certificate", name);
}

}  // namespace

TlsSettings::TlsSettings(const TlsFiles& files, std::string peer_name)
    : context_(net::new_tls_context()), peer_name_(std::move(peer_name)) {
  try {
    load(context_, files);
  } catch (...) {
    SSL_CTX_free(context_);
    throw;
  }
}

TlsSettings::~TlsSettings() { SSL_CTX_free(context_); }

TlsStream::TlsStream(UniqueFd socket, const TlsSettings& settings, TlsSide side, net::Deadline deadline)
    : socket_(std::move(socket)), ssl_(SSL_new(settings.context_)) {
  if (!ssl_) fail(Errc::internal, "make a TLS connection: {}", net::openssl_reason());
  try {
    BIO* bio = net::make_socket_bio(socket_.get());
    SSL_set_bio(ssl_, bio, bio);
    expect_name(ssl_, settings.peer_name_);
    const int done =
        drive("shake hands", deadline, [&] { return side == TlsSide::server ? SSL_accept(ssl_) : SSL_connect(ssl_); });
    if (done == 0) fail(Errc::peer_lost, "shake hands: the peer hung up");
  } catch (...) {
    SSL_free(ssl_);
    throw;
  }
}

TlsStream::~TlsStream() { SSL_free(ssl_); }

template <class Call>
int TlsStream::drive(std::string_view what, net::Deadline deadline, Call call) {
  for (;;) {
    net::forget_errors();
    errno = 0;
    const int result = call();
    if (result > 0) return result;
    const int error_number = errno;
    const int why = SSL_get_error(ssl_, result);
    if (why == SSL_ERROR_ZERO_RETURN) return 0;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
      wait_ready(socket_.get(), why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline, what);
    else
      throw net::tls_error(ssl_, why, error_number, std::string(what));
  }
}

std::size_t TlsStream::receive(std::span<std::byte> into, net::Deadline deadline) {
  const int most = static_cast<int>(std::min<std::size_t>(into.size(), INT_MAX));
  return static_cast<std::size_t>(drive("receive", deadline, [&] { return SSL_read(ssl_, into.data(), most); }));
}

void TlsStream::write(std::span<const std::byte> data, net::Deadline deadline) {
  // Without partial writes, OpenSSL cuts what is larger than a record into full ones, and returns when all is sent.
  if (drive("send", deadline, [&] { return SSL_write(ssl_, data.data(), static_cast<int>(data.size())); }) == 0)
    fail(Errc::peer_lost, "send: the peer hung up");
}

void TlsStream::send(std::span<const std::byte> data, net::Deadline deadline) {
  write(data, deadline);
  flush(deadline);
}

// What the BIO has gathered goes out.
void TlsStream::flush(net::Deadline deadline) {
  BIO* bio = SSL_get_wbio(ssl_);
  for (;;) {
    net::forget_errors();
    errno = 0;
    if (BIO_flush(bio) > 0) return;
    if (!BIO_should_retry(bio)) throw net::tls_error(ssl_, SSL_ERROR_SYSCALL, errno, "send");
    wait_ready(socket_.get(), POLLOUT, deadline, "send");
  }
}

void TlsStream::part(net::Deadline deadline) noexcept {
  try {
    net::forget_errors();
    if (SSL_shutdown(ssl_) < 0) return;
    std::byte ignored{};
    while (receive(std::span(&ignored, 1), deadline) > 0) {
    }
  } catch (const std::exception&) {
    // Everything has been said: how the peer goes no longer matters.
  }
}

}  // namespace godwit::pageserver::criu
