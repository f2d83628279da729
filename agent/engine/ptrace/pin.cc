#include "agent/engine/ptrace/pin.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace godwit::engine {
namespace {

bool move_to(pid_t tid, int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(static_cast<unsigned>(cpu), &one);
  return ::sched_setaffinity(tid, sizeof one, &one) == 0;
}

}  // namespace

Affinity::Affinity() {
  if (::syscall(SYS_sched_getaffinity, 0, before_.size(), before_.data()) >= 0) cpu_ = ::sched_getcpu();
}

Affinity::~Affinity() {
  if (changed_) ::syscall(SYS_sched_setaffinity, 0, before_.size(), before_.data());
}

Pin::Pin() {
  active_ = affinity_.cpu() >= 0 && move_to(0, affinity_.cpu());
  if (active_) affinity_.changed();
}

void Pin::bring(pid_t tid) const {
  if (active_) move_to(tid, affinity_.cpu());
}

bool Pin::is_place(const std::array<std::byte, 128>& affinity) const {
  if (!active_) return false;
  std::array<std::byte, 128> here{};
  const auto cpu = static_cast<unsigned>(affinity_.cpu());
  here.at(cpu / 8) |= std::byte{1} << (cpu % 8);
  return affinity == here;
}

Aside::Aside() {
  if (affinity_.cpu() < 0) return;
  const auto here = static_cast<unsigned>(affinity_.cpu());
  std::array<std::byte, 128> others{};
  others.fill(std::byte{0xff});
  others.at(here / 8) &= ~(std::byte{1} << (here % 8));
  if (::syscall(SYS_sched_setaffinity, 0, others.size(), others.data()) == 0) affinity_.changed();
}

}  // namespace godwit::engine
