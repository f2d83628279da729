// Who a peer is: the URI `spiffe://godwit/ROLE[/NAME]` among the alternative names of its certificate.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace godwit::net {

struct Identity {
  std::string role;  // agent, coordinator, operator
  std::string name;  // node or person; empty for the coordinator
  bool operator==(const Identity&) const = default;
};

std::optional<Identity> parse_identity(std::string_view uri);
std::string to_string(const Identity& identity);  // "agent/node-a"

// Errc::denied unless `peer` has this role and, when `name` is not empty, this name.
void require(const Identity& peer, std::string_view role, std::string_view name = {});

}  // namespace godwit::net
