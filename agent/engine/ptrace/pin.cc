#include "agent/engine/ptrace/pin.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

int move_to(pid_t tid, int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(cpu), &one);
  return ::sched_setaffinity(tid, sizeof one, &one);
}

}  // namespace

Pin::Pin() {
  const int cpu = ::sched_getcpu();
  if (cpu < 0 || ::syscall(SYS_sched_getaffinity, 0, before_.size(), before_.data()) < 0) return;
  if (move_to(0, cpu) == 0) cpu_ = cpu;
}

Pin::~Pin() {
  if (active()) ::syscall(SYS_sched_setaffinity, 0, before_.size(), before_.data());
}

Aside::Aside() {
  const int cpu = ::sched_getcpu();
  if (cpu < 0 || ::syscall(SYS_sched_getaffinity, 0, before_.size(), before_.data()) < 0) return;
  std::array<std::byte, 128> others{};
  others.fill(std::byte{0xff});
  others.at(static_cast<unsigned>(cpu) / 8) &= ~(std::byte{1} << (cpu % 8));
  moved_ = ::syscall(SYS_sched_setaffinity, 0, others.size(), others.data()) == 0;
}

Aside::~Aside() {
  if (moved_) ::syscall(SYS_sched_setaffinity, 0, before_.size(), before_.data());
}

void Pin::bring(pid_t tid) const {
  if (active()) move_to(tid, cpu_);
}

}  // namespace godwit::engine
