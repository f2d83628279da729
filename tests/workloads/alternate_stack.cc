// Checks: an alternate signal stack that is given up while a handler runs on it (SS_AUTODISARM): of a thread that is
// moved outside of handlers and of one that is inside.

#include "tests/workloads/workload.h"

#include <csignal>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t size = 64 * 1024;
constexpr int autodisarm = static_cast<int>(1u << 31);  // SS_AUTODISARM

struct Thread {
  char* memory = map(size);
  std::atomic<bool> inside = false, leave = false, armed_inside = false, on_it = false;
  std::atomic<bool> ready = false, verify = false, done = false;
  stack_t after{};
};
thread_local Thread* self = nullptr;

void handler(int) {
  char here;
  stack_t now{};
  sigaltstack(nullptr, &now);
  self->on_it = &here >= self->memory && &here < self->memory + size;
  self->inside = true;
  while (!self->leave) pause_for(0.001);
  sigaltstack(nullptr, &now);
  self->armed_inside = (now.ss_flags & SS_DISABLE) == 0;
}

void run(Thread& t, bool move_inside) {
  self = &t;
  const stack_t stack{t.memory, autodisarm, size};
  must(sigaltstack(&stack, nullptr), "sigaltstack");
  t.ready = !move_inside;
  if (!move_inside)
    while (!t.verify) pause_for(0.001);
  syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1);
  sigaltstack(nullptr, &t.after);
  t.done = true;
}

void check_stack(Workload& w, const char* name, Thread& t) {
  t.verify = t.leave = true;
  if (!w.check(w.wait_until([&] { return t.done.load(); }), "%s: the handler does not return", name)) return;
  w.check(t.on_it, "%s: the handler ran on another stack", name);
  w.check(!t.armed_inside, "%s: the stack was in use and armed", name);
  w.check(t.after.ss_sp == t.memory && t.after.ss_size == size && t.after.ss_flags == autodisarm,
          "%s: afterwards the stack is %p, %zu bytes, flags %#x", name, t.after.ss_sp, t.after.ss_size,
          static_cast<unsigned>(t.after.ss_flags));
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = SA_ONSTACK;
  must(sigaction(SIGUSR1, &action, nullptr), "sigaction");
  static Thread outside, inside;
  std::thread first([] { run(outside, false); }), second([] { run(inside, true); });
  first.detach();
  second.detach();
  while (!outside.ready || !inside.inside) pause_for(0.001);

  w.ready();
  w.wait_for_verify();
  check_stack(w, "moved outside", outside);
  check_stack(w, "moved inside", inside);
  return w.finish();
}
