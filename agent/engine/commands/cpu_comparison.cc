#include "agent/engine/commands/cpu_comparison.h"

#include "agent/engine/commands/cpu_words.h"

#include <fmt/format.h>

namespace godwit::engine::commands {
namespace {

std::uint64_t xfeatures(const image::CpuinfoX86Entry& cpu) {
  return cpu.has_all_xfeatures() ? cpu.all_xfeatures() : cpu.xfeatures_mask();
}

bool has(const image::CpuinfoX86Entry& cpu, const Instruction& i) {
  const int word = static_cast<int>(i.word);
  return word < cpu.capability_size() && (cpu.capability(word) >> i.bit & 1) != 0;
}

}  // namespace

std::string lacking(const image::CpuinfoX86Entry& wanted, const image::CpuinfoX86Entry& here) {
  std::string missing;
  const auto lacks = [&](const std::string& what) { missing += (missing.empty() ? "" : "; ") + what; };
  if (const std::uint64_t bits = xfeatures(wanted) & ~xfeatures(here))
    lacks(fmt::format("register state: xfeatures {:#x}", bits));
  std::string names;
  for (const Instruction& i : instructions)
    if (has(wanted, i) && !has(here, i)) names += fmt::format("{}{}", names.empty() ? "" : ", ", i.name);
  if (!names.empty()) lacks(fmt::format("instructions: {}", names));
  // A program may have asked how much room its registers take on a stack.
  if (wanted.has_xsave_size() && wanted.xsave_size() != here.xsave_size())
    lacks(fmt::format("register state of {} bytes, here it has {}", wanted.xsave_size(), here.xsave_size()));
  if (wanted.has_xsave_size_max() && wanted.xsave_size_max() != here.xsave_size_max())
    lacks(fmt::format("register state of {} bytes at most, here it has {}", wanted.xsave_size_max(),
                      here.xsave_size_max()));
  return missing;
}

}  // namespace godwit::engine::commands
