// Throw-away certificates for tests: an authority and nodes below it, EC P-256, valid for a day.
#pragma once

#include <memory>
#include <string>

namespace godwit::test {

// Makes directories as TlsContext::load wants them below a temporary directory, which goes with the object.
class TestCerts {
 public:
  TestCerts();
  ~TestCerts();
  TestCerts(const TestCerts&) = delete;
  TestCerts& operator=(const TestCerts&) = delete;

  // The directory with ca.crt, node.crt and node.key for `uri`, for example "spiffe://godwit/agent/a".
  // `names`: more alternative names, as OpenSSL writes them: "IP:127.0.0.1,DNS:localhost".
  std::string node(const std::string& uri, const std::string& names = {});

  // A list of revoked certificates in the node's directory, with its own on it, or empty.
  std::string revoked(const std::string& directory, bool itself);

 private:
  struct Authority;
  std::unique_ptr<Authority> authority_;
  std::string root_;
  int count_ = 0;
};

}  // namespace godwit::test
