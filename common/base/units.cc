#include "common/base/units.h"

#include "common/base/error.h"

#include <array>
#include <cctype>
#include <charconv>

namespace godwit {
namespace {
constexpr std::array<const char*, 5> suffixes{"B", "KiB", "MiB", "GiB", "TiB"};
}

std::string human_bytes(std::uint64_t bytes) {
  double value = static_cast<double>(bytes);
  std::size_t i = 0;
  for (; value >= 1024 && i + 1 < suffixes.size(); i++) value /= 1024;
  return i == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, suffixes[i]);
}

std::uint64_t parse_bytes(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string suffix(end, text.data() + text.size());
  unsigned shift = 0;
  if (!suffix.empty()) {
    constexpr std::string_view letters = "BKMGT";
    const auto at = letters.find(static_cast<char>(std::toupper(static_cast<unsigned char>(suffix[0]))));
    const std::string rest = suffix.substr(1);
    const bool known = at != std::string_view::npos && (rest.empty() || rest == "iB" || rest == "B" || rest == "ib");
    if (!known) fail(Errc::invalid_argument, "'{}' is not a size: write 4096, 128M or 1GiB", text);
    shift = static_cast<unsigned>(at) * 10;
  }
  if (ec != std::errc{} || (shift && value > (UINT64_MAX >> shift)))
    fail(Errc::invalid_argument, "'{}' is not a size: write 4096, 128M or 1GiB", text);
  return value << shift;
}

}  // namespace godwit
