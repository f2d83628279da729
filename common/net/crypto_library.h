// Which cryptography TLS is made of.
#pragma once

#include <openssl/types.h>

namespace godwit::net {

// What SSL_CTX_new_ex() and EVP_CIPHER_fetch() are to be called with.
struct CryptoLibrary {
  OSSL_LIB_CTX* context = nullptr;  // lives as long as the program
  const char* properties = nullptr;
};

// OpenSSL's own, with AES-GCM from aes_gcm_provider.h where the processor has the instructions and the machine's
// openssl.cnf leaves the choice to OpenSSL. The provider is in a context of its own, since in the default one others
// would get it too. From any thread.
const CryptoLibrary& crypto_library();

// A context of that library for TLS 1.3 between two that show certificates, without sessions that are resumed, which is
// what our connections and those of a page server have in common. Owned by the caller. Errc::internal.
SSL_CTX* new_tls_context();

}  // namespace godwit::net
