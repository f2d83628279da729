#include "deploy/demo.d/client/resp.h"

#include "common/base/error.h"

#include <charconv>

namespace godwit::demo {

namespace {

constexpr long largest_bulk = 512L << 20;  // redis' own limit

long parse_number(std::string_view text) {
  long value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size())
    fail(Errc::protocol, "redis sent a bad length: {}", text);
  return value;
}

}  // namespace

void append_command(std::string& out, std::initializer_list<std::string_view> arguments) {
  fmt::format_to(std::back_inserter(out), "*{}\r\n", arguments.size());
  for (std::string_view argument : arguments) {
    fmt::format_to(std::back_inserter(out), "${}\r\n", argument.size());
    out.append(argument).append("\r\n");
  }
}

std::optional<Reply> parse_reply(std::string_view bytes, std::size_t& at) {
  const std::string_view rest = bytes.substr(at);
  const std::size_t end = rest.find("\r\n");
  if (end == std::string_view::npos) {
    if (rest.size() > 64 * 1024) fail(Errc::protocol, "redis sent a line without an end");
    return std::nullopt;
  }
  if (end == 0) fail(Errc::protocol, "redis sent an empty line");
  const std::string_view line = rest.substr(1, end - 1);
  const std::size_t after = at + end + 2;
  switch (rest[0]) {
    case '+': at = after; return Reply{Reply::Kind::status, std::string(line)};
    case '-': at = after; return Reply{Reply::Kind::error, std::string(line)};
    case ':': at = after; return Reply{Reply::Kind::number, std::string(line)};
    case '$': {
      const long length = parse_number(line);
      if (length == -1) {
        at = after;
        return Reply{Reply::Kind::nil, {}};
      }
      if (length < 0 || length > largest_bulk) fail(Errc::protocol, "redis sent a value of {} bytes", length);
      const auto size = static_cast<std::size_t>(length);
      if (bytes.size() - after < size + 2) return std::nullopt;
      at = after + size + 2;
      return Reply{Reply::Kind::bulk, std::string(bytes.substr(after, size))};
    }
    default: fail(Errc::protocol, "redis sent a reply of an unknown kind: {}", rest[0]);
  }
}

}  // namespace godwit::demo
