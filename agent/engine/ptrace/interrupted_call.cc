#include "agent/engine/ptrace/interrupted_call.h"

#include "agent/engine/ptrace/call_notes.h"
#include "agent/engine/ptrace/scheduler_clock.h"
#include "common/base/check.h"
#include "common/base/fd.h"
#include "common/base/units.h"
#include "common/proc/reader.h"

#include <array>
#include <cstring>
#include <utility>

#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

namespace godwit::engine {
namespace {

constexpr long restart_block = -516;       // -ERESTART_RESTARTBLOCK
constexpr long restart_no_handler = -514;  // -ERESTARTNOHAND
constexpr std::size_t syscall_length = 2;

// A stop switches a thread at most this often: the group stop, the seizure, a trap.
constexpr std::uint64_t switches_of_a_stop = 4;

bool interrupted_by_any_stop(long number) {
  switch (number) {
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case SYS_epoll_pwait2:
    case SYS_rt_sigtimedwait:
    case SYS_ppoll:
    case SYS_pselect6:
    case SYS_read:
    case SYS_readv:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_write:
    case SYS_writev:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
    case SYS_accept:
    case SYS_accept4:
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_msgrcv:
    case SYS_msgsnd:
    case SYS_io_getevents: return true;
    default: return false;
  }
}

// The kernel begins it again by itself, but with all of its timeout.
bool restarted_in_full(long number) { return number == SYS_io_pgetevents; }

// The argument that points to a relative timeout, which the kernel does not write back.
unsigned long long* timeout_in_memory(long number, Regs& regs) {
  switch (number) {
    case SYS_epoll_pwait2:
    case SYS_semtimedop: return &regs.r10;
    case SYS_rt_sigtimedwait: return &regs.rdx;
    case SYS_io_getevents:
    case SYS_io_pgetevents: return &regs.r8;
    default: return nullptr;
  }
}

// The caller's timeout may be in read-only memory or in use by others, so what is left of it goes far below the stack
// pointer, where nothing is kept, and past what a signal handler may use before the call is begun again.
void shorten(pid_t pid, const std::vector<proc::Vma>& maps, std::uint64_t rsp, std::uint64_t slept_ns,
             unsigned long long& pointer) {
  constexpr std::uint64_t distance = 128 * 1024;
  timespec t{};
  const iovec local{&t, sizeof t};
  iovec remote{reinterpret_cast<void*>(pointer), sizeof t};
  if (::process_vm_readv(pid, &local, 1, &remote, 1, 0) != static_cast<ssize_t>(sizeof t)) return;
  const std::uint64_t total =
      static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
  const std::uint64_t left = total > slept_ns ? total - slept_ns : 0;
  t = {static_cast<time_t>(left / 1'000'000'000u), static_cast<long>(left % 1'000'000'000u)};
  for (const proc::Vma& vma : maps) {
    if (rsp < vma.start || rsp >= vma.end) continue;
    const std::uint64_t at = std::max(vma.start, rsp > distance ? rsp - distance : 0) & ~std::uint64_t{63};
    if (at < vma.start || at + sizeof t > rsp - 1024) return;
    remote.iov_base = reinterpret_cast<void*>(at);
    if (::process_vm_writev(pid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(sizeof t)) pointer = at;
    return;
  }
}

std::optional<proc::Sched> sched_of(const std::string& task) {
  try {
    return proc::parse_sched(read_file(task + "/sched"));
  } catch (const Error&) {
    return std::nullopt;  // ended meanwhile, or a kernel without scheduler statistics
  }
}

std::optional<unsigned> processor_of(const std::string& task) {
  try {
    return static_cast<unsigned>(proc::parse_stat(read_file(task + "/stat")).processor);
  } catch (const Error&) {
    return std::nullopt;
  }
}

bool signal_waits(pid_t pid, pid_t tid, std::uint64_t sigmask) {
  const proc::Status s = proc::Reader(pid, tid).status();
  return ((s.sig_pending | s.shared_sig_pending) & ~sigmask & s.sig_caught) != 0;
}

// `mov $number, %eax` right in front of the syscall instruction.
std::optional<long> number_in_code(pid_t pid, std::uint64_t rip) {
  std::array<unsigned char, 7> code{};
  const iovec local{code.data(), code.size()};
  const iovec remote{reinterpret_cast<void*>(rip - code.size()), code.size()};
  if (::process_vm_readv(pid, &local, 1, &remote, 1, 0) != static_cast<ssize_t>(code.size())) return std::nullopt;
  if (code[0] != 0xb8 || code[5] != 0x0f || code[6] != 0x05) return std::nullopt;
  std::int32_t number = 0;
  std::memcpy(&number, &code[1], sizeof number);
  return number;
}

}  // namespace

void InterruptedCalls::look(pid_t pid) {
  if (!read_notes_) {
    read_notes_ = true;
    for (const CallNote& n : read_notes(pid, proc::Reader(pid).stat().start_time))
      seen_[n.tid] = {n.number, n.rip, n.rsp, n.begun_ns};
  }
  const std::map<pid_t, Asleep> before = std::exchange(asleep_, {});
  for (const pid_t tid : proc::Reader(pid).threads()) {
    const std::string task = fmt::format("/proc/{}/task/{}", pid, tid);
    const auto sched = sched_of(task);
    const auto processor = processor_of(task);
    if (!sched || !processor) continue;
    const std::uint64_t switches = sched->switches;
    // 6.12+: a thread that has just fallen asleep may be moved to another CPU in its sleep, which sets it to 0. Then
    // what an earlier look saw of the same sleep counts.
    if (sched->exec_start_ns > 0) {
      const double start = static_cast<double>(sched->exec_start_ns) / 1e6 - scheduler_clock_ahead_ms(*processor);
      asleep_[tid] = {start > 0 ? static_cast<std::uint64_t>(start * 1e6) : 0, switches};
    } else if (const auto it = before.find(tid); it != before.end() && it->second.switches == switches) {
      asleep_.insert(*it);
    }
  }
}

InterruptedCall InterruptedCalls::settle(pid_t pid, pid_t tid, std::uint64_t stopped_at_ns, std::uint64_t sigmask,
                                         const std::vector<proc::Vma>& maps, Regs& regs) {
  const long result = static_cast<long>(regs.rax);
  long number = static_cast<long>(regs.orig_rax);
  const bool block = result == restart_block && number >= 0;
  const bool again = (result == -EINTR && interrupted_by_any_stop(number)) ||
                     (result == restart_no_handler && restarted_in_full(number));
  if (!block && !again) {
    seen_.erase(tid);
    return {};
  }
  std::uint64_t begun = stopped_at_ns;
  if (const auto it = asleep_.find(tid); it != asleep_.end()) {
    const auto sched = sched_of(fmt::format("/proc/{}/task/{}", pid, tid));
    // More switches: it has woken and slept again since the look, and the new call is only just begun.
    if (!sched || sched->switches <= it->second.switches + switches_of_a_stop)
      begun = std::min(begun, it->second.since_ns);
  }
  if (again) {
    if (signal_waits(pid, tid, sigmask)) return {};
    if (unsigned long long* timeout = timeout_in_memory(number, regs); timeout && *timeout)
      shorten(pid, maps, regs.rsp, stopped_at_ns - begun, *timeout);
    if ((number == SYS_epoll_wait || number == SYS_epoll_pwait) && static_cast<int>(regs.r10) > 0) {
      const std::uint64_t slept_ms = (stopped_at_ns - begun) / 1'000'000;
      const std::uint64_t timeout = regs.r10 & 0x7fffffff;
      regs.r10 = timeout > slept_ms ? timeout - slept_ms : 0;
    }
    regs.rip -= syscall_length;
    regs.rax = regs.orig_rax;
    regs.orig_rax = static_cast<unsigned long long>(-1);
    return {};
  }
  const auto seen = seen_.find(tid);
  const bool same = seen != seen_.end() && seen->second.rip == regs.rip && seen->second.rsp == regs.rsp;
  if (number == SYS_restart_syscall) {
    if (same) {
      number = seen->second.number;
      begun = seen->second.begun_ns;
    } else {
      number = number_in_code(pid, regs.rip).value_or(SYS_restart_syscall);
    }
  }
  seen_[tid] = {number, regs.rip, regs.rsp, begun};
  return {number, stopped_at_ns > begun ? stopped_at_ns - begun : 0};
}

}  // namespace godwit::engine
