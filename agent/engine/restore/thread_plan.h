// Who makes which thread of a process, and when: a thread is born with the seccomp filters that its maker has, so those
// that threads share are installed once, by one of them, before it makes the others.
#pragma once

#include "agent/engine/tasks/filters.h"

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace godwit::engine {

struct ThreadStep {
  std::size_t maker = 0;              // by position in the chains
  std::vector<std::size_t> made;      // first,
  std::optional<std::uint32_t> adds;  // and then it installs this filter
  bool operator==(const ThreadStep&) const = default;
};

// The first one is there, without filters; each of the others is made once, before it acts.
std::vector<ThreadStep> plan_threads(std::span<const tasks::filters::Chain> chains);

}  // namespace godwit::engine
