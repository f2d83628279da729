#include "common/net/identity.h"

#include "common/base/error.h"

#include <algorithm>

namespace godwit::net {
namespace {

constexpr std::string_view prefix = "spiffe://godwit/";

// Names end up in paths, logs and terminals.
bool good_name(std::string_view text) {
  return !text.empty() && text.size() <= 128 && text != "." && text != ".." && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  });
}

}  // namespace

std::optional<Identity> parse_identity(std::string_view uri) {
  if (!uri.starts_with(prefix)) return {};
  uri.remove_prefix(prefix.size());
  const std::size_t slash = uri.find('/');
  const std::string_view role = uri.substr(0, slash);
  if (slash == std::string_view::npos) {
    if (role != "coordinator") return {};
    return Identity{std::string(role), {}};
  }
  const std::string_view name = uri.substr(slash + 1);
  if ((role != "agent" && role != "operator" && role != "coordinator") || !good_name(name)) return {};
  return Identity{std::string(role), std::string(name)};
}

std::string to_string(const Identity& identity) {
  return identity.name.empty() ? identity.role : identity.role + "/" + identity.name;
}

void require(const Identity& peer, std::string_view role, std::string_view name) {
  if (peer.role == role && (name.empty() || peer.name == name)) return;
  const std::string wanted = to_string({std::string(role), std::string(name)});
  throw Error(Errc::denied, fmt::format("the peer's certificate says {}, expected {}", to_string(peer), wanted),
              "check which certificate directory the peer was started with");
}

}  // namespace godwit::net
