// TLS 1.3, mutual, from a directory with ca.crt, node.crt and node.key (PEM). Nothing else is ever spoken.
//
// A TlsContext is a cheap handle, used for both directions; files are read once, in load(). Peers are trusted
// when their chain ends in ca.crt (the system's authorities are not consulted) and they carry an Identity.
#pragma once

#include "common/net/identity.h"

#include <memory>
#include <string>

struct ssl_ctx_st;

namespace godwit::net {

class TlsContext {
 public:
  // Errc::invalid_argument names the file that is missing, unreadable or does not fit.
  static TlsContext load(const std::string& directory);

  const Identity& self() const { return state_->self; }
  ssl_ctx_st* native() const { return state_->context; }

 private:
  struct State {
    ssl_ctx_st* context = nullptr;
    Identity self;
    State() = default;
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State();
  };
  std::shared_ptr<State> state_;
};

}  // namespace godwit::net
