#include "agent/service/lifting.h"

#include "agent/service/keep_trying.h"
#include "common/base/log.h"

namespace godwit::service {

void Lifting::lift(std::unique_ptr<workload::CpuLimit> limit) {
  limit->lift();
  if (!limit->is_set()) return;
  copies_.insert(limit->copy().path());
  net::spawn(executor_, "limit.lift", keep_trying(std::move(limit)));
}

net::awaitable<void> Lifting::keep_trying(std::shared_ptr<workload::CpuLimit> limit) {
  const auto self = shared_from_this();
  const std::string copy = limit->copy().path();
  const auto over = [&] { return !limit->is_set() || !limit->has_tasks(); };
  if (!over())
    co_await service::keep_trying(first_pause_, [&] {
      limit->lift();
      return over();
    });
  copies_.erase(copies_.find(copy));
  log::info("limit.lifted", {{"cgroup", copy}, {"tasks_are_gone", limit->is_set()}});
}

}  // namespace godwit::service
