#include "tests/workloads/layout.h"

#include "tests/workloads/workload.h"

#include <cinttypes>
#include <cstdio>
#include <sstream>
#include <vector>

namespace godwit::workloads {
namespace {

struct Mapping {
  std::uint64_t start = 0;
  std::uint64_t end = 0;
  std::uint64_t offset = 0;
  std::string permissions;
  std::string name;
  std::string flags;
};

bool continues(const Mapping& a, const Mapping& b) {
  const bool file = !a.name.empty() && a.name[0] == '/';
  return a.end == b.start && a.permissions == b.permissions && a.name == b.name && a.flags == b.flags &&
         (!file || a.offset + (a.end - a.start) == b.offset);
}

// Without "sh": the permissions say the same, and for what cannot become writable the kernel sets it only when the file
// was open for writing. And without "gu" (6.18+): a mapping may have guards, because one that it was merged with had
// some.
std::string kept_flags(std::istringstream words) {
  std::string kept;
  for (std::string word; words >> word;) {
    if (word != "VmFlags:" && word != "sh" && word != "sd" && word != "gu" && word != "uw" && word != "um" &&
        word != "ac")
      kept += " " + word;
  }
  return kept;
}

}  // namespace

std::string layout(const void* at, std::size_t bytes) {
  const auto low = reinterpret_cast<std::uint64_t>(at);
  const std::uint64_t high = low + bytes;
  std::vector<Mapping> mappings;
  bool inside = false;
  Mapping current;
  std::istringstream smaps(read_file("/proc/self/smaps"));
  for (std::string line; std::getline(smaps, line);) {
    char permissions[8];
    int name_at = 0;
    Mapping found;
    if (std::sscanf(line.c_str(), "%" SCNx64 "-%" SCNx64 " %7s %" SCNx64 " %*s %*s %n", &found.start, &found.end,
                    permissions, &found.offset, &name_at) == 4 &&
        name_at != 0) {
      found.permissions = permissions;
      found.name = line.substr(static_cast<std::size_t>(name_at));
      inside = found.start < high && found.end > low;
      current = found;
    } else if (inside && line.starts_with("VmFlags:")) {
      current.flags = kept_flags(std::istringstream(line));
      if (!mappings.empty() && continues(mappings.back(), current)) {
        mappings.back().end = current.end;
      } else {
        mappings.push_back(current);
      }
    }
  }
  std::string text;
  for (const Mapping& m : mappings) {
    char line[64];
    std::snprintf(line, sizeof line, "%" PRIx64 "-%" PRIx64 " %" PRIx64 " ", m.start < low ? low : m.start,
                  m.end > high ? high : m.end, m.name.starts_with("/") ? m.offset : 0);
    text += line + m.permissions + " " + m.name + m.flags + "\n";
  }
  return text;
}

}  // namespace godwit::workloads
