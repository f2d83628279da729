// The way of a local dump to a page server. The engine has no network: this program connects, or puts a relay in
// between that speaks TLS, and the engine gets a connected socket.
#pragma once

#include "common/base/fd.h"

#include <optional>
#include <string>
#include <vector>

namespace godwit::cli {

struct PageLink {
  std::string address = "127.0.0.1";
  std::string port;
  bool tls = false;
  std::vector<std::string> for_relay;  // options of the relay
};

// What the words of a command say of a page server; nothing when they do not ask for one. The engine checks them all:
// what is wrong in them is its to say.
std::optional<PageLink> page_link_of(const std::vector<std::string>& words);

// A connected socket that a program executed from here inherits. Errc::peer_lost, Errc::timed_out.
UniqueFd open_page_link(const PageLink& link);

}  // namespace godwit::cli
