// TLS as CRIU uses it between page server and client: X.509 on both sides, and each compares the name in the other's
// certificate with its own --address.
//
// CRIU's side is GnuTLS with blocking reads, which asks two things of us: a server sends no session tickets (CRIU takes
// one for an error), and replies are one record each (every send() here is).
#pragma once

#include "pageserver/criu/stream.h"

#include <memory>
#include <string>

struct ssl_ctx_st;
struct ssl_st;

namespace godwit::pageserver::criu {

struct TlsFiles {
  // CRIU's own places.
  std::string ca = "/etc/pki/CA/cacert.pem";
  std::string revoked;  // a list of revoked certificates (PEM); empty: none
  std::string certificate = "/etc/pki/criu/cert.pem";
  std::string key = "/etc/pki/criu/private/key.pem";
};

enum class TlsSide { server = 1, client };

// Peers are trusted when their chain ends in `ca`; the system's authorities are not consulted.
class TlsSettings {
 public:
  // Errc::invalid_argument names the file that is missing, unreadable or does not fit. `peer_name`: an address or name
  // that the peer's certificate must carry; empty: not checked.
  TlsSettings(const TlsFiles& files, std::string peer_name);
  ~TlsSettings();
  TlsSettings(const TlsSettings&) = delete;
  TlsSettings& operator=(const TlsSettings&) = delete;

 private:
  friend class TlsStream;
  ssl_ctx_st* context_ = nullptr;
  std::string peer_name_;
};

class TlsStream : public Stream {
 public:
  // Shakes hands. Errc::denied says whose certificate was not accepted by whom.
  TlsStream(UniqueFd socket, const TlsSettings& settings, TlsSide side, net::Deadline deadline);
  ~TlsStream() override;
  std::size_t receive(std::span<std::byte> into, net::Deadline deadline) override;
  void send(std::span<const std::byte> data, net::Deadline deadline) override;
  void write(std::span<const std::byte> data, net::Deadline deadline) override;
  void flush(net::Deadline deadline) override;
  void part(net::Deadline deadline) noexcept override;

 private:
  // Repeats an SSL_* call until it is done; 0 when the peer has said goodbye.
  template <class Call>
  int drive(std::string_view what, net::Deadline deadline, Call call);

  UniqueFd socket_;
  ssl_st* ssl_ = nullptr;
};

}  // namespace godwit::pageserver::criu
