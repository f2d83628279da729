// What processors can do: in cpuinfo.img ('i': two entries, which are compared), and in /proc/cpuinfo as agents send it
// ('t': two texts, with a NUL between them).
#include "agent/engine/commands/cpu_comparison.h"
#include "agent/service/facts.h"
#include "common/proc/cpu_features.h"
#include "tests/fuzz/fuzz.h"

#include <algorithm>
#include <set>

namespace godwit {
namespace {

void images(std::string_view bytes) {
  image::CpuinfoEntry entry;
  if (!entry.ParsePartialFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  for (const auto& one : entry.x86_entry()) {
    require(engine::commands::lacking(one, one).empty());
    engine::commands::lacking(entry.x86_entry(0), one);
  }
}

void texts(std::string_view text) {
  const std::size_t end = std::min(text.find('\0'), text.size());
  const auto flags = [](std::string_view cpuinfo) {
    const std::vector<std::string> list = service::flags_in(std::string(cpuinfo));
    return std::set<std::string>(list.begin(), list.end());
  };
  const std::set<std::string> from = flags(text.substr(0, end)), to = flags(text.substr(end));
  require(proc::missing_features(from, from).empty());
  for (const std::string& feature : proc::missing_features(from, to))
    require(from.contains(feature) && !to.contains(feature));
}

}  // namespace

void fuzz(std::string_view input) {
  if (input.empty()) return;
  if (input[0] == 'i') images(input.substr(1));
  if (input[0] == 't') texts(input.substr(1));
}

}  // namespace godwit
