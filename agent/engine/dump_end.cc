// What becomes of a stopped tree: held in its cgroup, running on, left stopped or killed.
#include "agent/engine/dump.h"

#include "agent/engine/ptrace/killed.h"
#include "agent/engine/ptrace/pin.h"
#include "common/base/check.h"
#include "common/base/fault.h"

#include <csignal>
#include <ranges>
#include <thread>

#include <sys/syscall.h>
#include <sys/wait.h>

namespace godwit::engine {
namespace {

using namespace std::chrono_literals;

// A traced thread that has ended waits for its tracer to take notice; the leader, in addition, for all the others.
void wait_for_end(const SourceTask& task, const std::vector<pid_t>& tids) {
  const auto limit = static_cast<std::uint64_t>(std::chrono::nanoseconds(killed_ends_within).count());
  const std::uint64_t deadline = monotonic_ns() + limit;
  const auto take_notice = [&] {
    for (const pid_t tid : tids) ::waitpid(tid, nullptr, __WALL | WNOHANG);
  };
  for (;; std::this_thread::sleep_for(100us)) {
    take_notice();
    if (task.has_ended()) return take_notice();
    if (monotonic_ns() > deadline)
      throw Error(Errc::timed_out,
                  fmt::format("the dump is complete, but process {}, which has been killed, did not end", task.pid()),
                  "what it waits for in the kernel is in /proc/PID/wchan");
  }
}

}  // namespace

void Dump::hold_in(const Cgroup& cgroup) {
  fault::point("engine.dump.held");
  cgroup_ = cgroup;
  hold_->leave_frozen(cgroup);
  hold_.reset();
}

void Dump::release() {
  hold_->release();
  hold_.reset();
}

void Dump::leave_stopped() {
  hold_->leave_stopped();
  hold_.reset();
}

void Dump::thaw() {
  if (hold_) release();
  if (cgroup_) cgroup_->thaw();
  owe_unacknowledged();
}

Dump::Killed Dump::kill() {
  Killed killed;
  for (const auto& task : tasks_) killed.processes.push_back({task->pid(), hold_->of(task->pid()).start_time()});
  {
    // Held threads are on this CPU, and end there. Meanwhile another one frees their memory, too (5.15+), if it comes
    // before the last of them has let go of it.
    const Aside aside;
    for (const auto& task : tasks_)
      check(::syscall(SYS_pidfd_send_signal, task->pidfd(), SIGKILL, nullptr, 0), "kill process {}", task->pid());
    killed.at_ns = monotonic_ns();
    for (const auto& task : tasks_) ::syscall(SYS_process_mrelease, task->pidfd(), 0);
    // Children first: the init of a PID namespace ends after all that are in it.
    for (const auto& task : tasks_ | std::views::reverse) wait_for_end(*task, hold_->of(task->pid()).tids());
  }
  hold_->gone();
  hold_.reset();
  return killed;
}

}  // namespace godwit::engine
