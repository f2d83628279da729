#include "common/proc/cpu_features.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace godwit::proc {
namespace {

// What a program chooses its code by, by the beginning of its name in /proc/cpuinfo.
constexpr std::array instruction_sets{
    std::string_view("3dnow"),      std::string_view("abm"),        std::string_view("adx"),
    std::string_view("aes"),        std::string_view("amx"),        std::string_view("avx"),
    std::string_view("bmi"),        std::string_view("clflush"),    std::string_view("clwb"),
    std::string_view("cx16"),       std::string_view("f16c"),       std::string_view("fma"),
    std::string_view("fsgsbase"),   std::string_view("gfni"),       std::string_view("hle"),
    std::string_view("lahf_lm"),    std::string_view("mmx"),        std::string_view("movbe"),
    std::string_view("movdir"),     std::string_view("ospke"),      std::string_view("pclmulqdq"),
    std::string_view("popcnt"),     std::string_view("rdpid"),      std::string_view("rdrand"),
    std::string_view("rdseed"),     std::string_view("rdtscp"),     std::string_view("rtm"),
    std::string_view("serialize"),  std::string_view("sha"),        std::string_view("sse"),
    std::string_view("ssse3"),      std::string_view("user_shstk"), std::string_view("vaes"),
    std::string_view("vpclmulqdq"), std::string_view("waitpkg"),    std::string_view("xop"),
    std::string_view("xsave")};

constexpr std::size_t most_named = 8;

}  // namespace

std::vector<std::string> missing_features(const std::set<std::string>& from, const std::set<std::string>& to) {
  std::vector<std::string> missing;
  for (const std::string& flag : from)
    if (!to.contains(flag) &&
        std::ranges::any_of(instruction_sets, [&](std::string_view prefix) { return flag.starts_with(prefix); }))
      missing.push_back(flag);
  return missing;
}

std::string lacking_features(const std::set<std::string>& from, const std::set<std::string>& to) {
  std::vector<std::string> lacking = missing_features(from, to);
  if (lacking.empty()) return {};
  const bool more = lacking.size() > most_named;
  lacking.resize(std::min(lacking.size(), most_named));
  return fmt::format("its CPU lacks {}{}", fmt::join(lacking, ", "), more ? " and more" : "");
}

}  // namespace godwit::proc
