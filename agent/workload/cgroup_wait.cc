#include "agent/workload/cgroup_wait.h"

namespace godwit::workload {
namespace {

// Both are waited for while a workload stands still.
constexpr auto look_again = std::chrono::microseconds(200);

}  // namespace

net::awaitable<void> kill_all(Cgroup& cgroup, Clock::duration limit) {
  cgroup.kill();
  const auto deadline = Clock::now() + limit;
  while (cgroup.populated() && Clock::now() < deadline) co_await net::sleep_for(look_again);
  if (cgroup.populated()) fail(Errc::timed_out, "the processes in {} do not die", cgroup.path());
}

net::awaitable<bool> thaws(Cgroup& cgroup, Clock::duration limit) {
  cgroup.request_thaw();
  const auto deadline = Clock::now() + limit;
  while (cgroup.frozen() && Clock::now() < deadline) co_await net::sleep_for(look_again);
  co_return !cgroup.frozen();
}

}  // namespace godwit::workload
