#include "agent/engine/memory/page_plan.h"

#include <map>

namespace godwit::engine {
namespace {

std::uint64_t end_of(const pagewire::Run& run) { return run.address + run.pages * page_size; }

}  // namespace

bool is_in_order(const std::vector<Place>& places) {
  for (std::size_t i = 1; i < places.size(); i++)
    if (end_of(places[i - 1].run) > places[i].run.address) return false;
  return true;
}

std::vector<Place> in_order(std::vector<Place> places) {
  if (is_in_order(places)) return places;
  std::map<std::uint64_t, std::uint64_t> pages;  // address -> offset
  for (const Place& p : places)
    for (std::uint64_t i = 0; i < p.run.pages; i++) pages[p.run.address + i * page_size] = p.offset + i * page_size;
  places.clear();
  for (const auto& [address, offset] : pages) {
    if (!places.empty() && end_of(places.back().run) == address &&
        places.back().offset + places.back().run.pages * page_size == offset)
      places.back().run.pages++;
    else
      places.push_back({{address, 1}, offset});
  }
  return places;
}

std::vector<PlannedRun> plan_runs(std::vector<Place> places, const PageSet& held) {
  std::vector<PlannedRun> plan;
  std::uint64_t at = 0;  // what lies below is decided
  const auto inherit_until = [&](std::uint64_t end) {
    for (const pagewire::Run& r : held.runs(at, end)) plan.push_back({r, std::nullopt});
  };
  for (const Place& p : in_order(std::move(places))) {
    inherit_until(p.run.address);
    at = end_of(p.run);
    for (const pagewire::Run& r : held.runs(p.run.address, at))
      plan.push_back({r, p.offset + (r.address - p.run.address)});
  }
  inherit_until(~0ull);
  return plan;
}

}  // namespace godwit::engine
