// AES-128-GCM and AES-256-GCM for TLS 1.3 by the widest instructions that x86 has for them (VAES and VPCLMULQDQ on
// AVX-512), as a provider for OpenSSL: libipsec-mb computes it, here is what OpenSSL wants to be asked and told.
//
// OpenSSL 3.0 itself has no such code and takes more than twice as long. TLS 1.2 wants more of an AES-GCM (nonces that
// it makes by itself), which this one refuses.
#pragma once

#include <openssl/core.h>

namespace godwit::net {

// An OSSL_provider_init_fn. 0: the processor does not have the instructions.
//
// A cipher context is used by one thread at a time, as with OpenSSL's own; different ones share nothing that is
// written. Each owns its key and wipes it. Of an IV it makes one message, whose associated data has at most 256 bytes.
int aes_gcm_provider(const OSSL_CORE_HANDLE* core, const OSSL_DISPATCH* from_core, const OSSL_DISPATCH** functions,
                     void** provider);

}  // namespace godwit::net
