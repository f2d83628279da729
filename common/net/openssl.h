// For those who use OpenSSL itself: errors as Errors, a certificate's Identity, a BIO over a socket.
#pragma once

#include "common/base/error.h"
#include "common/net/identity.h"

#include <optional>
#include <string>

#include <openssl/err.h>
#include <openssl/ssl.h>

namespace godwit::net {

// Before each SSL_* call, since SSL_get_error() looks at what is queued. That there is nothing is seen at once; to
// clear it costs a walk through 16 places.
inline void forget_errors() {
  if (ERR_peek_error() != 0) ERR_clear_error();
}

std::string openssl_reason();  // the oldest queued reason, and empties the queue

// The Error for a failed SSL_* call, whose SSL_get_error() said `why`; `error_number` is errno right after it.
Error tls_error(SSL* ssl, int why, int error_number, const std::string& what);

std::optional<Identity> identity_of(X509* certificate);

// A BIO that does recv() and send(MSG_NOSIGNAL) on a non-blocking socket it does not own. OpenSSL's own one
// uses write(), whose SIGPIPE would have to be ignored, and what is ignored is inherited by workloads.
//
// Records wait until there are eight of them or BIO_flush() is called, which OpenSSL does after each flight of a
// handshake and each alert; the user must, after the last write. One send() per record costs a third more in the
// kernel.
BIO* make_socket_bio(int fd);

}  // namespace godwit::net
