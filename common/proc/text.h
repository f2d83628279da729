// Scanning of kernel text, for the parsers of this folder only. A Scanner walks over one line; whatever
// does not fit throws Error(Errc::internal) with the file and the line. Borrows the text.
#pragma once

#include "common/base/error.h"

#include <charconv>
#include <concepts>
#include <optional>
#include <string>
#include <string_view>

namespace godwit::proc {

[[noreturn]] void malformed(std::string_view file, std::string_view line);

// The next line without its end, or nothing at the end of the text.
std::optional<std::string_view> next_line(std::string_view& text);

std::string_view trim(std::string_view text);  // blanks and tabs, both ends

// Undoes `\NNN` (three octal digits): all of them, or only those of `only`.
std::string unescape_octal(std::string_view text, std::string_view only = {});

class Scanner {
 public:
  Scanner(std::string_view file, std::string_view line) : file_(file), line_(line), rest_(line) {}

  bool done() {
    skip_blanks();
    return rest_.empty();
  }
  std::string_view rest() {
    skip_blanks();
    return rest_;
  }
  std::string_view word();                // up to the next blank; never empty
  std::string_view until(char end);       // up to `end`, which is consumed
  void expect(std::string_view literal);  // blanks in front are skipped
  bool accept(std::string_view literal);
  void skip_blanks();
  [[noreturn]] void bad() const { malformed(file_, line_); }

  template <std::integral T>
  T dec() {
    return number<T>(10);
  }
  template <std::integral T>
  T hex() {
    return number<T>(16);
  }
  template <std::integral T>
  T oct() {
    return number<T>(8);
  }

 private:
  template <std::integral T>
  T number(int base) {
    skip_blanks();
    T value{};
    const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), value, base);
    if (error != std::errc{}) bad();
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return value;
  }

  std::string_view file_;
  std::string_view line_;
  std::string_view rest_;
};

// "Key:<blanks>value" cut in two; no colon, no value: both as they are.
struct KeyValue {
  std::string_view key;
  std::string_view value;
};
std::optional<KeyValue> key_value(std::string_view line);

}  // namespace godwit::proc
