#include "coordinator/cli/user.h"

#include "common/base/error.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <vector>

#include <pwd.h>

namespace godwit::cli {

User parse_user(const std::string& text) {
  User user;
  if (text.empty()) return user;
  const std::string first = text.substr(0, text.find(':'));
  const auto number = [&](const std::string& digits) {
    std::uint32_t value = 0;
    const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (ec != std::errc{} || end != digits.data() + digits.size())
      fail(Errc::invalid_argument, "'{}' is no user: write UID, UID:GID or a name", text);
    return value;
  };
  if (!first.empty() && std::ranges::all_of(first, [](unsigned char c) { return std::isdigit(c); })) {
    user.uid = user.gid = number(first);
    if (text.size() > first.size()) user.gid = number(text.substr(first.size() + 1));
    return user;
  }
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  ::getpwnam_r(text.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (!found) fail(Errc::invalid_argument, "this machine knows no user '{}'", text);
  return {.uid = entry.pw_uid, .gid = entry.pw_gid};
}

}  // namespace godwit::cli
