// Processes that a migration has let go and that go back to the cgroups they came from. Those that cannot at once, a
// home that takes nobody for a while say, are tried again, less and less often, until they are there: nobody else would
// before the next restart of the agent. On the executor's thread.
#pragma once

#include "common/net/async.h"

#include <memory>
#include <set>
#include <string>

namespace godwit::service {

class Homecoming : public std::enable_shared_from_this<Homecoming> {
 public:
  Homecoming(net::Executor executor, Clock::duration first_pause)
      : executor_(std::move(executor)), first_pause_(first_pause) {}

  void bring(const std::string& copy, const std::string& note);  // as workload::bring_home() has them

 private:
  net::awaitable<void> keep_trying(std::string copy, std::string note);

  net::Executor executor_;
  Clock::duration first_pause_;
  std::set<std::string> under_way_;  // by their notes
};

}  // namespace godwit::service
