#include "coordinator/fleet/placement.h"

#include "common/base/units.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace godwit::coordinator {
namespace {

// What a program chooses its code by, by the beginning of its name in /proc/cpuinfo. Other flags there speak of the
// kernel, of power or of virtual machines, and may differ.
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

// Why `seat` cannot take it; empty when it can.
std::string reason_against(const Seat& from, const Piece& piece, const Seat& seat) {
  if (seat.node == from.node) return "it is the node to be left";
  if (!seat.up) return "it is not connected";
  if (seat.cordoned) return "it is cordoned";
  if (seat.names.contains(piece.workload)) return fmt::format("it has a workload '{}' already", piece.workload);
  if (const auto no = piece.refused_by.find(seat.node); no != piece.refused_by.end()) return no->second;
  if (const std::uint64_t lacking = piece.xfeatures & ~seat.xfeatures)
    return fmt::format("its CPU cannot hold register state that is in use (xfeatures {:#x})", lacking);
  if (std::vector<std::string> lacking = missing_features(from.cpu_flags, seat.cpu_flags); !lacking.empty()) {
    const bool more = lacking.size() > most_named;
    lacking.resize(std::min(lacking.size(), most_named));
    return fmt::format("its CPU lacks {}{}", fmt::join(lacking, ", "), more ? " and more" : "");
  }
  if (piece.needed_bytes > seat.memory_available)
    return fmt::format("{} of memory are needed, {} are free", human_bytes(piece.needed_bytes),
                       human_bytes(seat.memory_available));
  return {};
}

}  // namespace

std::vector<std::string> missing_features(const std::set<std::string>& from, const std::set<std::string>& to) {
  std::vector<std::string> missing;
  for (const std::string& flag : from)
    if (!to.contains(flag) &&
        std::ranges::any_of(instruction_sets, [&](std::string_view prefix) { return flag.starts_with(prefix); }))
      missing.push_back(flag);
  return missing;
}

std::vector<Placed> place(const Seat& from, std::vector<Piece> pieces, std::vector<Seat> seats) {
  std::ranges::sort(pieces, [](const Piece& a, const Piece& b) {
    return a.needed_bytes != b.needed_bytes ? a.needed_bytes > b.needed_bytes : a.workload < b.workload;
  });
  std::ranges::sort(seats, {}, &Seat::node);
  std::vector<Placed> placed;
  for (const Piece& piece : pieces) {
    Seat* best = nullptr;
    std::vector<std::string> reasons;
    for (Seat& seat : seats) {
      const std::string against = reason_against(from, piece, seat);
      if (!against.empty())
        reasons.push_back(fmt::format("{}: {}", seat.node, against));
      else if (!best || seat.memory_available > best->memory_available)
        best = &seat;
    }
    if (!best) {
      const std::string why = reasons.empty() ? "there is no other node" : fmt::format("{}", fmt::join(reasons, "; "));
      placed.push_back({.workload = piece.workload, .node = {}, .reason = why});
      continue;
    }
    best->memory_available -= piece.needed_bytes;
    best->names.insert(piece.workload);
    placed.push_back({.workload = piece.workload, .node = best->node, .reason = {}});
  }
  return placed;
}

}  // namespace godwit::coordinator
