#include "coordinator/fleet/placement.h"

#include "common/base/units.h"
#include "common/proc/cpu_features.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace godwit::coordinator {
namespace {

// Why `seat` cannot take it; empty when it can.
std::string reason_against(const Seat& from, const Piece& piece, const Seat& seat) {
  if (seat.node == from.node) return "it is the node to be left";
  if (!seat.up) return "it is not connected";
  if (seat.cordoned) return "it is cordoned";
  if (seat.names.contains(piece.workload)) return fmt::format("it has a workload '{}' already", piece.workload);
  if (const auto no = piece.refused_by.find(seat.node); no != piece.refused_by.end()) return no->second;
  if (const std::uint64_t lacking = piece.xfeatures & ~seat.xfeatures)
    return fmt::format("its CPU cannot hold register state that is in use (xfeatures {:#x})", lacking);
  if (std::string lacking = proc::lacking_features(from.cpu_flags, seat.cpu_flags); !lacking.empty()) return lacking;
  if (piece.needed_bytes > seat.memory_available)
    return fmt::format("{} of memory are needed, {} are free", human_bytes(piece.needed_bytes),
                       human_bytes(seat.memory_available));
  return {};
}

}  // namespace

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
