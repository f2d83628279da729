// Redis' protocol (RESP2), as much of it as the demo needs. Pure functions over bytes.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace godwit::demo {

struct Reply {
  enum class Kind { status = 1, error, number, bulk, nil };
  Kind kind = Kind::nil;
  std::string text;  // without the framing
};

void append_command(std::string& out, std::initializer_list<std::string_view> arguments);

// Takes one whole reply off the front of `bytes`, advancing `at`; nothing when more bytes are needed.
// Throws Errc::protocol on anything that is no RESP2 scalar, and on a bulk above 512 MB.
std::optional<Reply> parse_reply(std::string_view bytes, std::size_t& at);

}  // namespace godwit::demo
