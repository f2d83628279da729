#include "agent/engine/tasks/call_restart.h"

#include <cerrno>

namespace godwit::engine::tasks::call_restart {
namespace {

// Results that never reach user mode (include/linux/errno.h of the kernel).
constexpr long restart_sys = 512, restart_nointr = 513, restart_nohand = 514, restart_block = 516;
constexpr unsigned syscall_length = 2;

bool begins_again(long result) { return result == restart_sys || result == restart_nointr || result == restart_nohand; }

}  // namespace

Regs dump(const Regs& regs, image::ThreadCoreEntry& into) {
  const long result = -static_cast<long>(regs.rax);
  if (static_cast<long>(regs.orig_rax) < 0) return regs;
  Regs r = regs;
  if (begins_again(result)) {
    r.rip -= syscall_length;
    r.rax = regs.orig_rax;
  } else if (result == restart_block) {
    r.rax = static_cast<unsigned long long>(-EINTR);
  } else {
    return regs;
  }
  into.set_restart(static_cast<std::uint32_t>(result));
  return r;
}

Regs restore(const Regs& regs, const image::ThreadCoreEntry& from) {
  if (!from.has_restart()) return regs;
  Regs r = regs;
  if (begins_again(from.restart()))
    r.rip += syscall_length;
  else if (from.restart() != restart_block)
    return regs;
  r.rax = static_cast<unsigned long long>(-static_cast<long>(from.restart()));
  return r;
}

}  // namespace godwit::engine::tasks::call_restart
