// Where pages lie that came in any order, some of them twice; and how they and what a parent has make up an object.
#pragma once

#include "agent/engine/memory/page_set.h"
#include "common/pagewire/frame.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace godwit::engine {

// A run of pages, and the offset of its first byte in a file.
struct Place {
  pagewire::Run run;
  std::uint64_t offset = 0;
};

bool is_in_order(const std::vector<Place>& places);
// Ascending and not overlapping: where a page came twice, the later one stands. Runs that continue each other in both
// ways are joined when anything had to be moved.
std::vector<Place> in_order(std::vector<Place> places);

// A part of an object: pages that lie somewhere, or that the parent has.
struct PlannedRun {
  pagewire::Run run;
  std::optional<std::uint64_t> offset;  // none: the parent's
};

// The whole object, ascending: what of `held` no place has is the parent's; what is not held is left out.
std::vector<PlannedRun> plan_runs(std::vector<Place> places, const PageSet& held);

}  // namespace godwit::engine
