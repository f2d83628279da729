// CPU limits that are no longer wanted. One that cannot be lifted at once, a group that is in use say, is tried again,
// less and less often, until it is, or until nothing lives any more that it could limit: nobody else would before the
// next restart of the agent. On the executor's thread.
#pragma once

#include "agent/workload/cpu_limit.h"
#include "common/net/async.h"

#include <memory>
#include <set>
#include <string>

namespace godwit::service {

class Lifting : public std::enable_shared_from_this<Lifting> {
 public:
  Lifting(net::Executor executor, Clock::duration first_pause)
      : executor_(std::move(executor)), first_pause_(first_pause) {}

  void lift(std::unique_ptr<workload::CpuLimit> limit);

  // Whether a limit on this copy is still to be lifted: another one would take it for what was there before.
  bool is_under_way(const std::string& copy) const { return copies_.contains(copy); }

 private:
  net::awaitable<void> keep_trying(std::shared_ptr<workload::CpuLimit> limit);

  net::Executor executor_;
  Clock::duration first_pause_;
  std::multiset<std::string> copies_;  // by the path of the cgroup
};

}  // namespace godwit::service
