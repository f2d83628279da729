#include "agent/engine/tasks/scheduling.h"

#include "common/base/check.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

namespace godwit::engine::tasks::scheduling {
namespace {

struct SchedAttr {  // of sched_setattr(2); not in glibc 2.36
  std::uint32_t size = 56, policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t runtime = 0, deadline = 0, period = 0;
  std::uint32_t util_min = 0, util_max = 0;  // 5.3+
};
static_assert(sizeof(SchedAttr) == 56);
constexpr std::uint32_t without_clamps = 48;        // its size
constexpr std::uint64_t clamp_flags = 0x20 | 0x40;  // SCHED_FLAG_UTIL_CLAMP_MIN, _MAX
constexpr std::uint32_t full_use = 1024;
constexpr bool fair(const SchedAttr& attr) { return attr.policy == SCHED_OTHER || attr.policy == SCHED_BATCH; }
constexpr std::uint32_t reset_on_fork_bit = 0x40000000;  // as sched_setscheduler(2) has it, in the image
constexpr std::uint64_t reset_on_fork_flag = 1;          // of SchedAttr
constexpr int ioprio_who_process = 1;

// Since 6.12 a thread of the fair scheduler may ask for a time slice; the host's default cannot be told from it but by
// its value.
std::uint64_t default_slice() {
  SchedAttr attr;
  return ::syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) == 0 && fair(attr) ? attr.runtime : 0;
}

// A kernel without clamps shows 0 for both, also of ourselves. A real-time thread asks for the full use by default.
void dump_clamps(const SchedAttr& attr, image::ThreadCoreEntry& into) {
  static const bool known = [] {
    SchedAttr own;
    return ::syscall(SYS_sched_getattr, 0, &own, sizeof own, 0) == 0 && own.util_max != 0;
  }();
  const bool real_time = attr.policy == SCHED_FIFO || attr.policy == SCHED_RR;
  const bool usual = attr.util_max == full_use && (attr.util_min == 0 || (real_time && attr.util_min == full_use));
  if (!known || usual) return;
  into.set_util_min(attr.util_min);
  into.set_util_max(attr.util_max);
}

}  // namespace

void dump(const HeldThread& thread, Inquiry& ask, image::ThreadCoreEntry& into) {
  SchedAttr attr;
  check(::syscall(SYS_sched_getattr, thread.tid, &attr, sizeof attr, 0), "read the scheduling of thread {}",
        thread.tid);
  into.set_sched_policy(attr.policy | (attr.flags & reset_on_fork_flag ? reset_on_fork_bit : 0));
  into.set_sched_nice(attr.nice);
  into.set_sched_prio(attr.priority);
  dump_clamps(attr, into);
  if (fair(attr) && attr.runtime && attr.runtime != default_slice()) into.set_slice_ns(attr.runtime);
  into.set_affinity(thread.affinity.data(), thread.affinity.size());
  const std::size_t slack = ask.batch().add("read the timer slack", SYS_prctl, PR_GET_TIMERSLACK);
  const std::size_t ioprio = ask.batch().add("read the I/O priority", SYS_ioprio_get, ioprio_who_process, 0);
  ask.then([&into, slack, ioprio](const Batch& b) {
    into.set_timerslack_ns(static_cast<std::uint64_t>(b.result(slack)));
    into.set_io_priority(static_cast<std::uint32_t>(b.result(ioprio)));
  });
}

void restore(Batch& batch, const image::ThreadCoreEntry& from) {
  if (from.has_timerslack_ns()) batch.add("set the timer slack", SYS_prctl, PR_SET_TIMERSLACK, from.timerslack_ns());
  if (from.io_priority())
    batch.attempt("set the I/O priority", SYS_ioprio_set, ioprio_who_process, 0, from.io_priority());
}

std::vector<std::string> restore_last(pid_t tid, const image::ThreadCoreEntry& from) {
  std::vector<std::string> notices;
  SchedAttr attr;
  attr.policy = from.sched_policy() & ~reset_on_fork_bit;
  attr.flags = from.sched_policy() & reset_on_fork_bit ? reset_on_fork_flag : 0;
  attr.nice = from.sched_nice();
  attr.priority = from.sched_prio();
  if (fair(attr)) attr.runtime = from.slice_ns();
  if (from.has_util_min() && from.has_util_max()) {
    attr.util_min = from.util_min();
    attr.util_max = from.util_max();
    attr.flags |= clamp_flags;
    if (::syscall(SYS_sched_setattr, tid, &attr, 0) != 0)
      notices.push_back(fmt::format("thread {}: utilisation clamps {} to {} are not granted here ({})", tid,
                                    attr.util_min, attr.util_max, std::strerror(errno)));
    attr.flags &= ~clamp_flags;
  }
  attr.size = without_clamps;
  if (::syscall(SYS_sched_setattr, tid, &attr, 0) != 0)
    notices.push_back(fmt::format("thread {}: scheduling policy {} priority {} is not granted here ({})", tid,
                                  attr.policy, attr.priority, std::strerror(errno)));
  // A mask without any CPU of this host, or an image without a mask: all CPUs.
  std::array<std::byte, 128> everything;
  everything.fill(std::byte{0xff});
  const bool known = !from.affinity().empty() && from.affinity().size() <= 1024;
  if (!known || ::syscall(SYS_sched_setaffinity, tid, from.affinity().size(), from.affinity().data()) != 0) {
    if (known) notices.push_back(fmt::format("thread {}: its CPUs do not exist here, it may run on all", tid));
    check(::syscall(SYS_sched_setaffinity, tid, everything.size(), everything.data()), "let thread {} run on all CPUs",
          tid);
  }
  return notices;
}

}  // namespace godwit::engine::tasks::scheduling
