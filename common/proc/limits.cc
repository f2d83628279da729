#include "common/proc/limits.h"

#include "common/proc/text.h"

namespace godwit::proc {
namespace {

// In the order of the resource numbers.
constexpr std::array<std::string_view, 16> names{
    "Max cpu time",       "Max file size",     "Max data size",         "Max stack size",
    "Max core file size", "Max resident set",  "Max processes",         "Max open files",
    "Max locked memory",  "Max address space", "Max file locks",        "Max pending signals",
    "Max msgqueue size",  "Max nice priority", "Max realtime priority", "Max realtime timeout"};
static_assert(RLIMIT_NOFILE == 7 && RLIMIT_RTTIME == 15 && RLIM_NLIMITS == 16);

std::uint64_t value(Scanner& scan) {
  if (scan.accept("unlimited")) return RLIM_INFINITY;
  return scan.dec<std::uint64_t>();
}

}  // namespace

Limits parse_limits(std::string_view text) {
  Limits limits;
  unsigned seen = 0;
  while (const auto line = next_line(text)) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      if (!line->starts_with(names[i])) continue;
      Scanner scan("limits", line->substr(names[i].size()));
      limits[i].soft = value(scan);
      limits[i].hard = value(scan);
      seen |= 1u << i;
    }
  }
  if (seen != 0xffff) malformed("limits", "not all 16 limits are there");
  return limits;
}

}  // namespace godwit::proc
