#include "common/proc/text.h"

namespace godwit::proc {

void malformed(std::string_view file, std::string_view line) {
  std::string shown;
  for (const char c : line.substr(0, 120)) shown += (c >= ' ' && c <= '~') ? c : '?';
  fail(Errc::internal, "cannot understand /proc {}: \"{}\"", file, shown);
}

std::optional<std::string_view> next_line(std::string_view& text) {
  if (text.empty()) return std::nullopt;
  const std::size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

std::string_view trim(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string unescape_octal(std::string_view text, std::string_view only) {
  const auto octal = [](char c) { return c >= '0' && c <= '7'; };
  std::string plain;
  plain.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && octal(text[i + 1]) && octal(text[i + 2]) && octal(text[i + 3])) {
      const int value = (text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0');
      if (value < 256 && (only.empty() || only.contains(static_cast<char>(value)))) {
        plain += static_cast<char>(value);
        i += 3;
        continue;
      }
    }
    plain += text[i];
  }
  return plain;
}

void Scanner::skip_blanks() {
  const std::size_t first = rest_.find_first_not_of(" \t");
  rest_.remove_prefix(first == std::string_view::npos ? rest_.size() : first);
}

std::string_view Scanner::word() {
  skip_blanks();
  const std::string_view found = rest_.substr(0, rest_.find_first_of(" \t"));
  if (found.empty()) bad();
  rest_.remove_prefix(found.size());
  return found;
}

std::string_view Scanner::until(char end) {
  const std::size_t at = rest_.find(end);
  if (at == std::string_view::npos) bad();
  const std::string_view found = rest_.substr(0, at);
  rest_.remove_prefix(at + 1);
  return found;
}

bool Scanner::accept(std::string_view literal) {
  skip_blanks();
  if (!rest_.starts_with(literal)) return false;
  rest_.remove_prefix(literal.size());
  return true;
}

void Scanner::expect(std::string_view literal) {
  if (!accept(literal)) bad();
}

std::optional<KeyValue> key_value(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  return KeyValue{line.substr(0, colon), trim(line.substr(colon + 1))};
}

}  // namespace godwit::proc
