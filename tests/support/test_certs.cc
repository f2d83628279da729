#include "tests/support/test_certs.h"

#include "common/base/fd.h"

#include <filesystem>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

namespace godwit::test {
namespace {

struct Free {
  void operator()(EVP_PKEY* k) const { EVP_PKEY_free(k); }
  void operator()(X509* c) const { X509_free(c); }
  void operator()(X509_EXTENSION* e) const { X509_EXTENSION_free(e); }
  void operator()(BIO* b) const { BIO_free(b); }
  void operator()(X509_CRL* l) const { X509_CRL_free(l); }
  void operator()(X509_REVOKED* r) const { X509_REVOKED_free(r); }
  void operator()(ASN1_TIME* t) const { ASN1_TIME_free(t); }
};
using Key = std::unique_ptr<EVP_PKEY, Free>;
using Certificate = std::unique_ptr<X509, Free>;

void add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, Free> one(X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
  if (!one || X509_add_ext(certificate, one.get(), -1) != 1) fail(Errc::internal, "add extension {}", value);
}

Certificate make(EVP_PKEY* key, const std::string& name, long serial, X509* issuer, EVP_PKEY* issuer_key,
                 const std::string& uri) {
  Certificate c(X509_new());
  X509_set_version(c.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(c.get()), serial);
  X509_gmtime_adj(X509_getm_notBefore(c.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(c.get()), 24 * 3600);
  X509_set_pubkey(c.get(), key);
  X509_NAME* subject = X509_get_subject_name(c.get());
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
                             0);
  if (!issuer) issuer = c.get();
  X509_set_issuer_name(c.get(), X509_get_subject_name(issuer));
  if (uri.empty()) {
    add_extension(c.get(), issuer, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(c.get(), issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
  } else {
    add_extension(c.get(), issuer, NID_basic_constraints, "critical,CA:FALSE");
    add_extension(c.get(), issuer, NID_subject_alt_name, "URI:" + uri);
  }
  if (X509_sign(c.get(), issuer_key, EVP_sha256()) == 0) fail(Errc::internal, "sign the certificate of {}", name);
  return c;
}

template <class Write>
void save(const std::string& path, Write write) {
  const std::unique_ptr<BIO, Free> out(BIO_new(BIO_s_mem()));
  write(out.get());
  char* data = nullptr;
  const long length = BIO_get_mem_data(out.get(), &data);
  write_file(path, std::string_view(data, static_cast<std::size_t>(length)));
}

}  // namespace

struct TestCerts::Authority {
  Key key{EVP_EC_gen("P-256")};
  Certificate certificate = make(key.get(), "test authority", 1, nullptr, key.get(), "");
};

TestCerts::TestCerts() : authority_(std::make_unique<Authority>()) {
  std::string pattern = (std::filesystem::temp_directory_path() / "godwit-certs-XXXXXX").string();
  if (!::mkdtemp(pattern.data())) throw syscall_error(errno, "make a temporary directory");
  root_ = pattern;
}

TestCerts::~TestCerts() {
  std::error_code ignored;
  std::filesystem::remove_all(root_, ignored);
}

std::string TestCerts::node(const std::string& uri, const std::string& names) {
  const std::string directory = root_ + "/" + std::to_string(++count_);
  check(::mkdir(directory.c_str(), 0700), "make {}", directory);
  const Key key(EVP_EC_gen("P-256"));
  const Certificate certificate = make(key.get(), "test node", 1 + count_, authority_->certificate.get(),
                                       authority_->key.get(), names.empty() ? uri : uri + "," + names);
  save(directory + "/ca.crt", [&](BIO* out) { PEM_write_bio_X509(out, authority_->certificate.get()); });
  save(directory + "/node.crt", [&](BIO* out) { PEM_write_bio_X509(out, certificate.get()); });
  save(directory + "/node.key",
       [&](BIO* out) { PEM_write_bio_PrivateKey(out, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
  return directory;
}

std::string TestCerts::revoked(const std::string& directory, bool itself) {
  const std::unique_ptr<X509_CRL, Free> list(X509_CRL_new());
  X509_CRL_set_version(list.get(), 1);
  X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(authority_->certificate.get()));
  const std::unique_ptr<ASN1_TIME, Free> from(X509_gmtime_adj(nullptr, -3600)),
      until(X509_gmtime_adj(nullptr, 24 * 3600));
  X509_CRL_set1_lastUpdate(list.get(), from.get());
  X509_CRL_set1_nextUpdate(list.get(), until.get());
  if (itself) {
    const std::unique_ptr<BIO, Free> in(BIO_new_file((directory + "/node.crt").c_str(), "r"));
    const Certificate certificate(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
    std::unique_ptr<X509_REVOKED, Free> entry(X509_REVOKED_new());
    X509_REVOKED_set_serialNumber(entry.get(), X509_get_serialNumber(certificate.get()));
    X509_REVOKED_set_revocationDate(entry.get(), from.get());
    X509_CRL_add0_revoked(list.get(), entry.release());
  }
  if (X509_CRL_sign(list.get(), authority_->key.get(), EVP_sha256()) == 0) fail(Errc::internal, "sign a list");
  const std::string path = directory + "/revoked.pem";
  save(path, [&](BIO* out) { PEM_write_bio_X509_CRL(out, list.get()); });
  return path;
}

}  // namespace godwit::test
