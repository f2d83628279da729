#include "agent/engine/restore/thread_plan.h"

#include <map>

namespace godwit::engine {
namespace {

// Not made yet, and with the filters that somebody has who is there.
struct Group {
  std::size_t first = 0;  // who is there
  std::size_t filters = 0;
  std::vector<std::size_t> others;
};

}  // namespace

std::vector<ThreadStep> plan_threads(std::span<const tasks::filters::Chain> chains) {
  using Next = std::optional<std::uint32_t>;
  const auto next = [&](std::size_t thread, std::size_t filters) {
    return filters < chains[thread].size() ? Next(chains[thread][filters]) : std::nullopt;
  };
  std::vector<ThreadStep> plan;
  std::vector<Group> groups(1);
  for (std::size_t i = 1; i < chains.size(); i++) groups.front().others.push_back(i);
  while (!groups.empty()) {
    Group group = std::move(groups.back());
    groups.pop_back();
    for (;; group.filters++) {
      std::map<Next, std::vector<std::size_t>> branches;
      for (const std::size_t thread : group.others) branches[next(thread, group.filters)].push_back(thread);
      ThreadStep step{.maker = group.first, .made = {}, .adds = next(group.first, group.filters)};
      group.others.clear();
      for (auto& [filter, threads] : branches) {
        if (!filter) {  // no more than it has now
          step.made.insert(step.made.end(), threads.begin(), threads.end());
        } else if (filter == step.adds) {
          group.others = std::move(threads);
        } else {
          step.made.push_back(threads.front());
          groups.push_back({threads.front(), group.filters, {threads.begin() + 1, threads.end()}});
        }
      }
      const bool last = !step.adds;
      if (!step.made.empty() || step.adds) plan.push_back(std::move(step));
      if (last) break;
    }
  }
  return plan;
}

}  // namespace godwit::engine
