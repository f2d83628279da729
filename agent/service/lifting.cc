#include "agent/service/lifting.h"

#include "common/base/log.h"

#include <algorithm>

namespace godwit::service {
namespace {

constexpr Clock::duration longest_pause = std::chrono::seconds(10);

}  // namespace

void Lifting::lift(std::unique_ptr<workload::CpuLimit> limit) {
  limit->lift();
  if (!limit->is_set()) return;
  copies_.insert(limit->copy().path());
  net::spawn(executor_, "limit.lift", keep_trying(std::move(limit)));
}

net::awaitable<void> Lifting::keep_trying(std::shared_ptr<workload::CpuLimit> limit) {
  const auto self = shared_from_this();
  const std::string copy = limit->copy().path();
  Clock::duration pause = first_pause_;
  while (limit->is_set() && limit->has_tasks()) {
    co_await net::sleep_for(pause);
    pause = std::min(2 * pause, longest_pause);
    limit->lift();
  }
  copies_.erase(copies_.find(copy));
  log::info("limit.lifted", {{"cgroup", copy}, {"tasks_are_gone", limit->is_set()}});
}

}  // namespace godwit::service
