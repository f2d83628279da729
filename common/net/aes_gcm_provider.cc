#include "common/net/aes_gcm_provider.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include <intel-ipsec-mb.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

namespace godwit::net {
namespace {

constexpr std::size_t tag_size = 16, usual_iv = 12, longest_iv = 128, most_associated = 256;

// What libipsec-mb has for one size of key. Its functions keep all state in what they are given.
struct Functions {
  std::size_t key_size;
  aes_gcm_pre_t expand;
  aes_gcm_init_var_iv_t start;
  aes_gcm_enc_dec_update_t encrypt, decrypt;
  aes_gcm_enc_dec_finalize_t finish;
};

struct Provider {
  Functions aes128, aes256;
};

// One message after the other, by one thread at a time. Of an IV only one message is made.
struct Cipher {
  explicit Cipher(const Functions& functions) : gcm(functions) {}
  Cipher(const Cipher&) = default;
  ~Cipher() {
    OPENSSL_cleanse(&key, sizeof key);
    OPENSSL_cleanse(&message, sizeof message);
  }

  const Functions& gcm;
  // The library expects what its header says only under a macro of its own build.
  alignas(64) gcm_key_data key{};
  alignas(64) gcm_context_data message{};
  bool encrypts = true, has_key = false, has_iv = false, started = false, has_tag = false;
  std::array<std::uint8_t, longest_iv> iv{};
  std::size_t iv_size = usual_iv;
  std::array<std::uint8_t, most_associated> associated{};  // of the message that has not started
  std::size_t associated_size = 0;
  std::array<std::uint8_t, tag_size> tag{};  // made by encryption, or what decryption is to find
  std::size_t tag_length = tag_size;
};

Cipher& cipher_of(void* context) { return *static_cast<Cipher*>(context); }

template <Functions Provider::* size>
void* make(void* provider) {
  return new (std::nothrow) Cipher(static_cast<const Provider*>(provider)->*size);
}

void* duplicate(void* context) { return new (std::nothrow) Cipher(cipher_of(context)); }
void destroy(void* context) { delete static_cast<Cipher*>(context); }

int set_parameters(void* context, const OSSL_PARAM* parameters);

int initialize(Cipher& c, bool encrypts, const unsigned char* key, std::size_t key_size, const unsigned char* iv,
               std::size_t iv_size, const OSSL_PARAM* parameters) {
  // What decryption is to find may have been said before.
  if (encrypts || c.encrypts) c.has_tag = false;
  c.encrypts = encrypts;
  c.started = false;
  c.associated_size = 0;
  if (iv) {
    if (iv_size == 0 || iv_size > longest_iv) return 0;
    std::memcpy(c.iv.data(), iv, iv_size);
    c.iv_size = iv_size;
    c.has_iv = true;
  }
  if (key) {
    if (key_size != c.gcm.key_size) return 0;
    c.gcm.expand(key, &c.key);
    c.has_key = true;
  }
  return set_parameters(&c, parameters);
}

template <bool encrypts>
int begin(void* context, const unsigned char* key, std::size_t key_size, const unsigned char* iv, std::size_t iv_size,
          const OSSL_PARAM* parameters) {
  return initialize(cipher_of(context), encrypts, key, key_size, iv, iv_size, parameters);
}

bool start(Cipher& c) {
  if (c.started) return true;
  if (!c.has_key || !c.has_iv) return false;
  c.gcm.start(&c.key, &c.message, c.iv.data(), c.iv_size, c.associated.data(), c.associated_size);
  c.has_iv = false;
  return c.started = true;
}

// Without `out`, `in` is associated data, which comes before all else.
int update(void* context, unsigned char* out, std::size_t* written, std::size_t room, const unsigned char* in,
           std::size_t size) {
  Cipher& c = cipher_of(context);
  *written = 0;
  if (size == 0) return 1;
  if (!out) {
    if (c.started || size > most_associated - c.associated_size) return 0;
    std::memcpy(c.associated.data() + c.associated_size, in, size);
    c.associated_size += size;
    *written = size;
    return 1;
  }
  if (room < size || !start(c)) return 0;
  (c.encrypts ? c.gcm.encrypt : c.gcm.decrypt)(&c.key, &c.message, out, in, size);
  *written = size;
  return 1;
}

int finish(void* context, unsigned char*, std::size_t* written, std::size_t) {
  Cipher& c = cipher_of(context);
  *written = 0;
  if (!start(c)) return 0;
  std::array<std::uint8_t, tag_size> made{};
  c.gcm.finish(&c.key, &c.message, made.data(), made.size());
  c.started = false;
  c.associated_size = 0;
  if (!c.encrypts)
    return std::exchange(c.has_tag, false) && CRYPTO_memcmp(made.data(), c.tag.data(), c.tag_length) == 0;
  c.tag = made;
  c.has_tag = true;
  return 1;
}

int get_parameters(void* context, OSSL_PARAM* parameters) {
  Cipher& c = cipher_of(context);
  if (OSSL_PARAM* p = OSSL_PARAM_locate(parameters, OSSL_CIPHER_PARAM_KEYLEN))
    if (!OSSL_PARAM_set_size_t(p, c.gcm.key_size)) return 0;
  if (OSSL_PARAM* p = OSSL_PARAM_locate(parameters, OSSL_CIPHER_PARAM_IVLEN))
    if (!OSSL_PARAM_set_size_t(p, c.iv_size)) return 0;
  if (OSSL_PARAM* p = OSSL_PARAM_locate(parameters, OSSL_CIPHER_PARAM_AEAD_TAGLEN))
    if (!OSSL_PARAM_set_size_t(p, c.tag_length)) return 0;
  if (OSSL_PARAM* p = OSSL_PARAM_locate(parameters, OSSL_CIPHER_PARAM_AEAD_TAG)) {
    const bool made = c.encrypts && c.has_tag && p->data_size > 0 && p->data_size <= tag_size;
    if (!made || !OSSL_PARAM_set_octet_string(p, c.tag.data(), p->data_size)) return 0;
  }
  return 1;
}

int set_parameters(void* context, const OSSL_PARAM* parameters) {
  Cipher& c = cipher_of(context);
  if (!parameters) return 1;
  if (const OSSL_PARAM* p = OSSL_PARAM_locate_const(parameters, OSSL_CIPHER_PARAM_KEYLEN)) {
    std::size_t size = 0;
    if (!OSSL_PARAM_get_size_t(p, &size) || size != c.gcm.key_size) return 0;
  }
  if (const OSSL_PARAM* p = OSSL_PARAM_locate_const(parameters, OSSL_CIPHER_PARAM_IVLEN)) {
    std::size_t size = 0;
    if (!OSSL_PARAM_get_size_t(p, &size) || size == 0 || size > longest_iv) return 0;
    if (size != c.iv_size) c.has_iv = false;
    c.iv_size = size;
  }
  if (const OSSL_PARAM* p = OSSL_PARAM_locate_const(parameters, OSSL_CIPHER_PARAM_AEAD_TAG)) {
    if (p->data_type != OSSL_PARAM_OCTET_STRING || p->data_size == 0 || p->data_size > tag_size || c.encrypts) return 0;
    if (p->data) std::memcpy(c.tag.data(), p->data, p->data_size);
    c.tag_length = p->data_size;
    c.has_tag = p->data != nullptr;
  }
  return 1;
}

const OSSL_PARAM* gettable(void*, void*) {
  static constexpr OSSL_PARAM all[] = {OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, nullptr),
                                       OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, nullptr),
                                       OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_AEAD_TAGLEN, nullptr),
                                       OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, nullptr, 0), OSSL_PARAM_END};
  return all;
}

const OSSL_PARAM* settable(void*, void*) {
  static constexpr OSSL_PARAM all[] = {OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, nullptr),
                                       OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, nullptr),
                                       OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, nullptr, 0), OSSL_PARAM_END};
  return all;
}

template <std::size_t key_size>
int describe(OSSL_PARAM* parameters) {
  const auto set = [&](const char* name, auto setter, auto value) {
    OSSL_PARAM* p = OSSL_PARAM_locate(parameters, name);
    return !p || setter(p, value) == 1;
  };
  return set(OSSL_CIPHER_PARAM_MODE, OSSL_PARAM_set_uint, EVP_CIPH_GCM_MODE) &&
         set(OSSL_CIPHER_PARAM_KEYLEN, OSSL_PARAM_set_size_t, key_size) &&
         set(OSSL_CIPHER_PARAM_IVLEN, OSSL_PARAM_set_size_t, usual_iv) &&
         set(OSSL_CIPHER_PARAM_BLOCK_SIZE, OSSL_PARAM_set_size_t, 1) &&
         set(OSSL_CIPHER_PARAM_AEAD, OSSL_PARAM_set_int, 1) && set(OSSL_CIPHER_PARAM_CUSTOM_IV, OSSL_PARAM_set_int, 1);
}

template <class Function>
OSSL_DISPATCH entry(int id, Function* function) {
  return {id, reinterpret_cast<void (*)()>(function)};
}

template <Functions Provider::* size, std::size_t key_size>
const OSSL_DISPATCH* functions() {
  static const OSSL_DISPATCH all[] = {entry(OSSL_FUNC_CIPHER_NEWCTX, make<size>),
                                      entry(OSSL_FUNC_CIPHER_DUPCTX, duplicate),
                                      entry(OSSL_FUNC_CIPHER_FREECTX, destroy),
                                      entry(OSSL_FUNC_CIPHER_ENCRYPT_INIT, begin<true>),
                                      entry(OSSL_FUNC_CIPHER_DECRYPT_INIT, begin<false>),
                                      entry(OSSL_FUNC_CIPHER_UPDATE, update),
                                      entry(OSSL_FUNC_CIPHER_FINAL, finish),
                                      entry(OSSL_FUNC_CIPHER_GET_PARAMS, describe<key_size>),
                                      entry(OSSL_FUNC_CIPHER_GET_CTX_PARAMS, get_parameters),
                                      entry(OSSL_FUNC_CIPHER_SET_CTX_PARAMS, set_parameters),
                                      entry(OSSL_FUNC_CIPHER_GETTABLE_CTX_PARAMS, gettable),
                                      entry(OSSL_FUNC_CIPHER_SETTABLE_CTX_PARAMS, settable),
                                      {0, nullptr}};
  return all;
}

const OSSL_ALGORITHM* operations(void*, int operation, int* no_cache) {
  static const OSSL_ALGORITHM ciphers[] = {
      {"AES-128-GCM", "provider=godwit", functions<&Provider::aes128, 16>(), nullptr},
      {"AES-256-GCM", "provider=godwit", functions<&Provider::aes256, 32>(), nullptr},
      {nullptr, nullptr, nullptr, nullptr}};
  *no_cache = 0;
  return operation == OSSL_OP_CIPHER ? ciphers : nullptr;
}

void tear_down(void* provider) { delete static_cast<Provider*>(provider); }

}  // namespace

int aes_gcm_provider(const OSSL_CORE_HANDLE*, const OSSL_DISPATCH*, const OSSL_DISPATCH** functions, void** provider) {
  // The library looks for the instructions only; whether the kernel keeps the registers is what the compiler's check
  // asks.
  if (!__builtin_cpu_supports("avx512f")) return 0;
  const std::unique_ptr<IMB_MGR, void (*)(IMB_MGR*)> manager(alloc_mb_mgr(0), free_mb_mgr);
  if (!manager || (manager->features & IMB_CPUFLAGS_AVX512_T2) != IMB_CPUFLAGS_AVX512_T2) return 0;
  init_mb_mgr_avx512(manager.get());
  if (imb_get_errno(manager.get()) != 0) return 0;  // it has tested itself, among other things
  const IMB_MGR& m = *manager;
  *provider = new (std::nothrow) Provider{
      {16, m.gcm128_pre, m.gcm128_init_var_iv, m.gcm128_enc_update, m.gcm128_dec_update, m.gcm128_enc_finalize},
      {32, m.gcm256_pre, m.gcm256_init_var_iv, m.gcm256_enc_update, m.gcm256_dec_update, m.gcm256_enc_finalize}};
  static const OSSL_DISPATCH own[] = {entry(OSSL_FUNC_PROVIDER_QUERY_OPERATION, operations),
                                      entry(OSSL_FUNC_PROVIDER_TEARDOWN, tear_down),
                                      {0, nullptr}};
  *functions = own;
  return *provider != nullptr;
}

}  // namespace godwit::net
