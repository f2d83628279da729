#include "common/net/openssl.h"

#include "common/base/buffer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace godwit::net {
namespace {

constexpr std::size_t largest_record = 5 + 16384 + 256;
constexpr std::size_t slot = (largest_record + 63) / 64 * 64;
constexpr std::size_t slots = 8;

// Gathered records lie in slots, not one after the other: common/base/buffer.h has why.
struct SocketBio {
  explicit SocketBio(int socket) : fd(socket), room(slots * slot) {}

  int fd;
  Buffer room;
  std::vector<iovec> records{};  // encrypted, on their way
  std::size_t sent = 0;          // of them, wholly
};

SocketBio& state_of(BIO* bio) { return *static_cast<SocketBio*>(BIO_get_data(bio)); }

int finish(BIO* bio, ssize_t n, int retry_flag) {
  BIO_clear_retry_flags(bio);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_flags(bio, retry_flag | BIO_FLAGS_SHOULD_RETRY);
  return static_cast<int>(n);
}

// 1: nothing is gathered any more; else as sendmsg() says it.
int bio_flush(BIO* bio) {
  SocketBio& s = state_of(bio);
  while (s.sent < s.records.size()) {
    msghdr message{};
    message.msg_iov = s.records.data() + s.sent;
    message.msg_iovlen = s.records.size() - s.sent;
    const ssize_t n = ::sendmsg(s.fd, &message, MSG_NOSIGNAL);
    if (n < 0) return finish(bio, n, BIO_FLAGS_WRITE);
    for (auto gone = static_cast<std::size_t>(n); gone > 0;) {
      iovec& record = s.records[s.sent];
      const std::size_t part = std::min(gone, record.iov_len);
      record = {static_cast<char*>(record.iov_base) + part, record.iov_len - part};
      gone -= part;
      if (record.iov_len == 0) s.sent++;
    }
  }
  s.records.clear();
  s.sent = 0;
  return finish(bio, 1, BIO_FLAGS_WRITE);
}

int bio_write(BIO* bio, const char* data, int length) {
  SocketBio& s = state_of(bio);
  const std::size_t size = std::min(static_cast<std::size_t>(length), slot);  // of more, the rest comes again
  if (s.records.size() == slots)
    if (const int flushed = bio_flush(bio); flushed < 0) return flushed;
  std::byte* const at = s.room.data() + s.records.size() * slot;
  std::memcpy(at, data, size);
  s.records.push_back({at, size});
  return finish(bio, static_cast<ssize_t>(size), BIO_FLAGS_WRITE);
}

int bio_read(BIO* bio, char* data, int length) {
  return finish(bio, ::recv(state_of(bio).fd, data, static_cast<std::size_t>(length), 0), BIO_FLAGS_READ);
}

long bio_ctrl(BIO* bio, int command, long, void*) { return command == BIO_CTRL_FLUSH ? bio_flush(bio) : 0; }

int bio_destroy(BIO* bio) {
  delete static_cast<SocketBio*>(BIO_get_data(bio));
  return 1;
}

BIO_METHOD* method() {
  struct Deleter {
    void operator()(BIO_METHOD* m) const { BIO_meth_free(m); }
  };
  static const std::unique_ptr<BIO_METHOD, Deleter> made = [] {
    std::unique_ptr<BIO_METHOD, Deleter> m(BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "godwit socket"));
    BIO_meth_set_write(m.get(), bio_write);
    BIO_meth_set_read(m.get(), bio_read);
    BIO_meth_set_ctrl(m.get(), bio_ctrl);
    BIO_meth_set_destroy(m.get(), bio_destroy);
    return m;
  }();
  return made.get();
}

// Alerts by which the other side refuses our certificate, or the lack of one.
bool refuses_certificate(int reason) {
  switch (reason) {
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
    case SSL_R_TLSV1_ALERT_DECRYPT_ERROR:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA: return true;
    default: return false;
  }
}

// What the TLS layer says, rather than what the layers below it stumbled over. Empties the queue.
unsigned long first_of_tls() {
  unsigned long chosen = 0;
  while (const unsigned long code = ERR_get_error())
    if (chosen == 0 || (ERR_GET_LIB(chosen) != ERR_LIB_SSL && ERR_GET_LIB(code) == ERR_LIB_SSL)) chosen = code;
  return chosen;
}

}  // namespace

BIO* make_socket_bio(int fd) {
  BIO* bio = BIO_new(method());
  if (!bio) fail(Errc::internal, "make a BIO: {}", openssl_reason());
  BIO_set_data(bio, new SocketBio(fd));
  BIO_set_init(bio, 1);
  return bio;
}

std::string openssl_reason() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "unknown reason";
  if (ERR_SYSTEM_ERROR(code)) return std::strerror(ERR_GET_REASON(code));
  const char* reason = ERR_reason_error_string(code);
  return reason ? reason : "unknown reason";
}

Error tls_error(SSL* ssl, int why, int error_number, const std::string& what) {
  if (why == SSL_ERROR_ZERO_RETURN) return Error(Errc::peer_lost, what + ": the peer closed the connection");
  if (why == SSL_ERROR_SYSCALL) {
    ERR_clear_error();
    if (error_number == 0) return Error(Errc::peer_lost, what + ": the connection ended without a goodbye");
    Error error(Errc::peer_lost, what + ": " + std::strerror(error_number));
    return error.with_errno(error_number);
  }
  const unsigned long code = first_of_tls();
  const int reason = ERR_GET_REASON(code);
  const char* found = ERR_reason_error_string(code);
  const std::string text = found ? found : "unknown reason";
  if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
    return Error(Errc::peer_lost, what + ": the connection ended without a goodbye");
  if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
    const char* detail = X509_verify_cert_error_string(SSL_get_verify_result(ssl));
    return Error(Errc::denied, what + ": the peer's certificate is not accepted: " + detail,
                 "both sides need certificates of the same authority (ca.crt)");
  }
  if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
    return Error(Errc::denied, what + ": the peer showed no certificate");
  if (refuses_certificate(reason))
    return Error(Errc::denied, what + ": the peer does not accept our certificate: " + text,
                 "both sides need certificates of the same authority (ca.crt)");
  return Error(Errc::protocol, what + ": TLS: " + text);
}

std::optional<Identity> identity_of(X509* certificate) {
  if (!certificate) return {};
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  std::optional<Identity> found;
  for (int i = 0; !found && i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* one = sk_GENERAL_NAME_value(names, i);
    if (one->type != GEN_URI) continue;
    const ASN1_IA5STRING* uri = one->d.uniformResourceIdentifier;
    found = parse_identity(
        {reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)), static_cast<std::size_t>(ASN1_STRING_length(uri))});
  }
  GENERAL_NAMES_free(names);
  return found;
}

}  // namespace godwit::net
