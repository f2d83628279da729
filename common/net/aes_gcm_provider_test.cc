// Whatever OpenSSL's own AES-GCM makes of a message is what this one has to make of it.
#include "common/net/crypto_library.h"
#include "tests/support/test_certs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <openssl/evp.h>
#include <openssl/provider.h>
#include <openssl/ssl.h>

namespace godwit::net {
namespace {

using Bytes = std::vector<unsigned char>;
using CipherPointer = std::unique_ptr<EVP_CIPHER, decltype(&EVP_CIPHER_free)>;
using Context = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

Context make_context() { return {EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free}; }

Bytes from_hex(std::string_view text) {
  Bytes bytes;
  for (std::size_t i = 0; i < text.size(); i += 2)
    bytes.push_back(static_cast<unsigned char>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
  return bytes;
}

struct Message {
  Bytes key, iv, associated, text;
  std::size_t chunk = 1 << 20;  // of the text
  std::size_t associated_chunk = 256;
  bool in_place = false;
};

struct Sealed {
  Bytes text, tag;
  bool operator==(const Sealed&) const = default;
};

bool begin(EVP_CIPHER_CTX* context, const EVP_CIPHER* cipher, const Message& m, bool encrypts) {
  return EVP_CipherInit_ex(context, cipher, nullptr, nullptr, nullptr, encrypts) == 1 &&
         EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_IVLEN, static_cast<int>(m.iv.size()), nullptr) == 1 &&
         EVP_CipherInit_ex(context, nullptr, nullptr, m.key.data(), m.iv.data(), encrypts) == 1;
}

bool associate(EVP_CIPHER_CTX* context, const Message& m) {
  for (std::size_t at = 0; at < m.associated.size(); at += m.associated_chunk) {
    const auto size = static_cast<int>(std::min(m.associated_chunk, m.associated.size() - at));
    int n = 0;
    if (EVP_CipherUpdate(context, nullptr, &n, m.associated.data() + at, size) != 1 || n != size) return false;
  }
  return true;
}

// What comes out for `text` from `at` on, chunk by chunk.
bool pass(EVP_CIPHER_CTX* context, const Message& m, const Bytes& text, Bytes& out, std::size_t at = 0) {
  if (m.in_place) out = text;
  out.resize(text.size());
  for (; at < text.size(); at += m.chunk) {
    const auto size = static_cast<int>(std::min(m.chunk, text.size() - at));
    int n = 0;
    if (EVP_CipherUpdate(context, out.data() + at, &n, m.in_place ? out.data() + at : text.data() + at, size) != 1 ||
        n != size)
      return false;
  }
  return true;
}

bool finish(EVP_CIPHER_CTX* context) {
  int n = 0;
  unsigned char none[16];
  return EVP_CipherFinal_ex(context, none, &n) == 1 && n == 0;
}

Bytes tag_of(EVP_CIPHER_CTX* context) {
  Bytes tag(16);
  EXPECT_EQ(EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, tag.data()), 1);
  return tag;
}

bool expect_tag(EVP_CIPHER_CTX* context, Bytes tag) {
  return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(tag.size()), tag.data()) == 1;
}

Sealed seal(const EVP_CIPHER* cipher, const Message& m) {
  const Context context = make_context();
  Sealed sealed;
  EXPECT_TRUE(begin(context.get(), cipher, m, true) && associate(context.get(), m) &&
              pass(context.get(), m, m.text, sealed.text) && finish(context.get()));
  sealed.tag = tag_of(context.get());
  return sealed;
}

std::optional<Bytes> open(const EVP_CIPHER* cipher, const Message& m, const Sealed& sealed) {
  const Context context = make_context();
  Bytes text;
  EXPECT_TRUE(begin(context.get(), cipher, m, false) && expect_tag(context.get(), sealed.tag) &&
              associate(context.get(), m) && pass(context.get(), m, sealed.text, text));
  if (!finish(context.get())) return std::nullopt;
  return text;
}

class AesGcm : public testing::TestWithParam<int> {  // bits of a key
 protected:
  void SetUp() override {
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("vpclmulqdq"))
      GTEST_SKIP() << "this processor has no VAES on AVX-512";
    ASSERT_NE(crypto_library().context, nullptr);
    ASSERT_STREQ(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(ours.get())), "godwit");
    ASSERT_STREQ(OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(theirs.get())), "default");
  }

  Bytes random(std::size_t size) {
    Bytes bytes(size);
    std::ranges::generate(bytes, [&] { return static_cast<unsigned char>(numbers()); });
    return bytes;
  }
  std::size_t up_to(std::size_t most) { return numbers() % (most + 1); }
  Message message(std::size_t size) {
    return {.key = random(static_cast<std::size_t>(GetParam()) / 8),
            .iv = random(12),
            .associated = random(5),
            .text = random(size)};
  }

  std::string name = "AES-" + std::to_string(GetParam()) + "-GCM";
  CipherPointer ours{EVP_CIPHER_fetch(crypto_library().context, name.c_str(), crypto_library().properties),
                     EVP_CIPHER_free};
  CipherPointer theirs{EVP_CIPHER_fetch(nullptr, name.c_str(), nullptr), EVP_CIPHER_free};
  std::mt19937 numbers{static_cast<unsigned>(GetParam())};
};

INSTANTIATE_TEST_SUITE_P(, AesGcm, testing::Values(128, 256));

TEST_P(AesGcm, makes_of_every_message_what_openssl_makes_of_it) {
  for (const std::size_t size : {0, 1, 15, 16, 17, 255, 256, 257, 1023, 4096, 16383, 16384, 16385, 100'000})
    for (int i = 0; i < 20; i++) {
      Message m = message(size);
      m.associated = random(i < 4 ? 5 : up_to(256));
      m.iv = random(i < 10 ? 12 : 1 + up_to(127));
      const Sealed expected = seal(theirs.get(), m);
      for (const std::size_t chunk : {std::size_t{1} << 20, 1 + up_to(16), 1 + up_to(size)}) {
        m.chunk = chunk;
        m.associated_chunk = 1 + up_to(255);
        m.in_place = !m.in_place;
        EXPECT_EQ(seal(ours.get(), m), expected) << size << " bytes by " << chunk;
        EXPECT_EQ(open(ours.get(), m, expected), m.text) << size << " bytes by " << chunk;
      }
    }
}

TEST_P(AesGcm, is_described_as_openssl_describes_it) {
  EXPECT_EQ(EVP_CIPHER_get_key_length(ours.get()), EVP_CIPHER_get_key_length(theirs.get()));
  EXPECT_EQ(EVP_CIPHER_get_iv_length(ours.get()), EVP_CIPHER_get_iv_length(theirs.get()));
  EXPECT_EQ(EVP_CIPHER_get_block_size(ours.get()), EVP_CIPHER_get_block_size(theirs.get()));
  EXPECT_EQ(EVP_CIPHER_get_mode(ours.get()), EVP_CIPHER_get_mode(theirs.get()));
  // Of the call that does a whole message at once, EVP_Cipher(), OpenSSL has a version of its own.
  EXPECT_EQ(EVP_CIPHER_get_flags(ours.get()) | EVP_CIPH_FLAG_CUSTOM_CIPHER, EVP_CIPHER_get_flags(theirs.get()));
  EXPECT_EQ(EVP_CIPHER_get_nid(ours.get()), EVP_CIPHER_get_nid(theirs.get()));
}

TEST_P(AesGcm, finds_every_change) {
  for (const std::size_t size : {1, 16, 333, 16385}) {
    const Message m = message(size);
    const Sealed good = seal(ours.get(), m);
    for (std::size_t i = 0; i < 16; i++) {
      Sealed bad = good;
      bad.tag[i] ^= static_cast<unsigned char>(1 << up_to(7));
      EXPECT_EQ(open(ours.get(), m, bad), std::nullopt) << "byte " << i << " of the tag";
    }
    Sealed bad = good;
    bad.text[up_to(size - 1)] ^= 1;
    EXPECT_EQ(open(ours.get(), m, bad), std::nullopt);
    for (Bytes Message::* part : {&Message::associated, &Message::iv, &Message::key}) {
      Message other = m;
      (other.*part)[up_to((m.*part).size() - 1)] ^= 1;
      EXPECT_EQ(open(ours.get(), other, good), std::nullopt);
    }
    EXPECT_EQ(open(ours.get(), m, good), m.text);
  }
}

TEST_P(AesGcm, opens_nothing_without_a_tag) {
  const Message m = message(100);
  const Sealed sealed = seal(ours.get(), m);
  const Context context = make_context();
  Bytes text;
  ASSERT_TRUE(begin(context.get(), ours.get(), m, false) && associate(context.get(), m));
  ASSERT_TRUE(pass(context.get(), m, sealed.text, text));
  EXPECT_FALSE(finish(context.get()));
}

TEST_P(AesGcm, compares_a_shorter_tag_as_far_as_it_goes) {
  const Message m = message(100);
  Sealed sealed = seal(ours.get(), m);
  sealed.tag.resize(12);
  EXPECT_EQ(open(ours.get(), m, sealed), m.text);
  sealed.tag.back() ^= 1;
  EXPECT_EQ(open(ours.get(), m, sealed), std::nullopt);
}

// As TLS does it: the key once, and for each record an IV.
TEST_P(AesGcm, keeps_its_key_from_message_to_message) {
  Message m = message(1000);
  const Context sender = make_context(), receiver = make_context();
  ASSERT_TRUE(begin(sender.get(), ours.get(), m, true) && begin(receiver.get(), ours.get(), m, false));
  for (int i = 0; i < 20; i++) {
    m.iv = random(12);
    m.associated = random(5);
    m.text = random(up_to(20'000));
    Sealed sealed;
    ASSERT_EQ(EVP_CipherInit_ex(sender.get(), nullptr, nullptr, nullptr, m.iv.data(), 1), 1);
    ASSERT_TRUE(associate(sender.get(), m) && pass(sender.get(), m, m.text, sealed.text) && finish(sender.get()));
    sealed.tag = tag_of(sender.get());
    EXPECT_EQ(sealed, seal(theirs.get(), m));

    Bytes text;
    ASSERT_EQ(EVP_CipherInit_ex(receiver.get(), nullptr, nullptr, nullptr, m.iv.data(), 0), 1);
    ASSERT_TRUE(expect_tag(receiver.get(), sealed.tag) && associate(receiver.get(), m));
    EXPECT_TRUE(pass(receiver.get(), m, sealed.text, text) && finish(receiver.get()));
    EXPECT_EQ(text, m.text);
  }
}

TEST_P(AesGcm, makes_one_message_of_an_iv) {
  const Message m = message(100);
  const Context context = make_context();
  Bytes out;
  ASSERT_TRUE(begin(context.get(), ours.get(), m, true) && pass(context.get(), m, m.text, out));
  ASSERT_TRUE(finish(context.get()));
  EXPECT_FALSE(pass(context.get(), m, m.text, out));
  EXPECT_FALSE(finish(context.get()));
}

TEST_P(AesGcm, refuses_associated_data_that_come_late_or_are_too_much) {
  Message m = message(100);
  const Context context = make_context();
  Bytes out;
  ASSERT_TRUE(begin(context.get(), ours.get(), m, true) && pass(context.get(), m, m.text, out));
  EXPECT_FALSE(associate(context.get(), m));
  m.associated = random(257);
  ASSERT_TRUE(begin(context.get(), ours.get(), m, true));
  EXPECT_FALSE(associate(context.get(), m));
}

TEST_P(AesGcm, goes_on_in_a_copy_in_the_middle_of_a_message) {
  Message m = message(1000);
  m.chunk = 7;
  const Sealed expected = seal(theirs.get(), m);
  Bytes begun(m.text.begin(), m.text.begin() + 497);  // whole chunks, and not whole blocks
  const Context context = make_context(), copy = make_context();
  Sealed sealed, other;
  ASSERT_TRUE(begin(context.get(), ours.get(), m, true) && associate(context.get(), m));
  ASSERT_TRUE(pass(context.get(), m, begun, sealed.text));
  ASSERT_EQ(EVP_CIPHER_CTX_copy(copy.get(), context.get()), 1);
  for (const auto& [c, s] : {std::pair{context.get(), &sealed}, std::pair{copy.get(), &other}}) {
    s->text = sealed.text;
    ASSERT_TRUE(pass(c, m, m.text, s->text, begun.size()) && finish(c));
    s->tag = tag_of(c);
    EXPECT_EQ(*s, expected);
  }
}

// Test case 4 of McGrew and Viega, "The Galois/Counter Mode of Operation".
TEST(AesGcmVector, is_sealed_as_published) {
  const CryptoLibrary& library = crypto_library();
  const CipherPointer cipher(EVP_CIPHER_fetch(library.context, "AES-128-GCM", library.properties), EVP_CIPHER_free);
  const Message m{.key = from_hex("feffe9928665731c6d6a8f9467308308"),
                  .iv = from_hex("cafebabefacedbaddecaf888"),
                  .associated = from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
                  .text = from_hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                                   "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39")};
  EXPECT_EQ(seal(cipher.get(), m),
            (Sealed{.text = from_hex("42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e"
                                     "21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"),
                    .tag = from_hex("5bc94fbc3221a5db94fae95ae7121a47")}));
}

using TlsPointer = std::unique_ptr<SSL, decltype(&SSL_free)>;

TlsPointer make_tls(const CryptoLibrary& library, const std::string& directory, const char* suite) {
  const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(
      SSL_CTX_new_ex(library.context, library.properties, TLS_method()), SSL_CTX_free);
  EXPECT_EQ(SSL_CTX_set_min_proto_version(context.get(), TLS1_3_VERSION), 1);
  EXPECT_EQ(SSL_CTX_set_ciphersuites(context.get(), suite), 1);
  EXPECT_EQ(SSL_CTX_use_certificate_chain_file(context.get(), (directory + "/node.crt").c_str()), 1);
  EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context.get(), (directory + "/node.key").c_str(), SSL_FILETYPE_PEM), 1);
  EXPECT_EQ(SSL_CTX_load_verify_locations(context.get(), (directory + "/ca.crt").c_str(), nullptr), 1);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  return {SSL_new(context.get()), SSL_free};
}

// Sends all of `data` while the other side, in the same thread, receives it.
Bytes carry(SSL* from, SSL* to, const Bytes& data) {
  Bytes received(data.size() + 1);
  std::size_t sent = 0, arrived = 0;
  for (int idle = 0; arrived < data.size() && idle < 10; idle++) {
    std::size_t n = 0;
    if (sent < data.size() &&
        SSL_write_ex(from, data.data() + sent, std::min<std::size_t>(data.size() - sent, 20'000), &n))
      sent += n, idle = 0;
    if (SSL_read_ex(to, received.data() + arrived, received.size() - arrived, &n)) arrived += n, idle = 0;
  }
  received.resize(arrived);
  return received;
}

TEST(AesGcmTls, speaks_with_openssl_whoever_calls) {
  test::TestCerts certs;
  const std::string directory = certs.node("spiffe://godwit/agent/a");
  Bytes data(1'000'000);
  for (std::size_t i = 0; i < data.size(); i++) data[i] = static_cast<unsigned char>(i * 7 + i / 251);
  for (const char* suite : {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
    for (const auto& [called, calls] :
         {std::pair{CryptoLibrary{}, crypto_library()}, std::pair{crypto_library(), CryptoLibrary{}}}) {
      const TlsPointer server = make_tls(called, directory, suite), client = make_tls(calls, directory, suite);
      BIO *one = nullptr, *other = nullptr;
      ASSERT_EQ(BIO_new_bio_pair(&one, 0, &other, 0), 1);
      SSL_set_bio(server.get(), one, one);
      SSL_set_bio(client.get(), other, other);
      SSL_set_accept_state(server.get());
      SSL_set_connect_state(client.get());
      for (int i = 0; i < 10 && !(SSL_is_init_finished(server.get()) && SSL_is_init_finished(client.get())); i++)
        SSL_do_handshake(client.get()), SSL_do_handshake(server.get());
      EXPECT_STREQ(SSL_get_cipher_name(client.get()), suite);
      EXPECT_TRUE(carry(client.get(), server.get(), data) == data);
      ASSERT_EQ(SSL_key_update(server.get(), SSL_KEY_UPDATE_REQUESTED), 1);
      EXPECT_TRUE(carry(server.get(), client.get(), data) == data);
      EXPECT_TRUE(carry(client.get(), server.get(), data) == data);
    }
}

}  // namespace
}  // namespace godwit::net
