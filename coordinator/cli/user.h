// Whose a program is to be, as `godwit run --user` says it.
#pragma once

#include <cstdint>
#include <string>

namespace godwit::cli {

struct User {
  std::uint32_t uid = 0, gid = 0;
  bool operator==(const User&) const = default;
};

// UID, UID:GID or a name; empty: root. Names are looked up here, numbers are taken as they are: the nodes need not know
// this machine's users. Errc::invalid_argument.
User parse_user(const std::string& text);

}  // namespace godwit::cli
