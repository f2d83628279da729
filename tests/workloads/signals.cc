// Checks: the dispositions of all signals with their flags and masks, the main thread's mask and its alternate stack,
// and that the handlers still run as they were asked to.

#include "tests/workloads/workload.h"

#include <csignal>
#include <cstring>
#include <sys/syscall.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

// What the kernel keeps for a signal; sigaction(3) hides the restorer.
struct KernelAction {
  void* handler;
  unsigned long flags;
  void* restorer;
  std::uint64_t mask;
};

KernelAction action_of(int signal) {
  KernelAction action{};
  syscall(SYS_rt_sigaction, signal, nullptr, &action, 8);
  return action;
}

char* alternate_stack = nullptr;
constexpr std::size_t stack_size = 64 * 1024;
std::atomic<int> plain_calls = 0;
std::atomic<int> told_value = 0;
std::atomic<bool> on_stack = false;

void plain(int) { ++plain_calls; }
void with_info(int, siginfo_t* info, void*) {
  told_value = info->si_value.sival_int;
  char here;
  on_stack = &here >= alternate_stack && &here < alternate_stack + stack_size;
}

void set(int signal, void (*handler)(int), int flags, int also_blocked = 0) {
  struct sigaction action{};
  action.sa_handler = handler;
  action.sa_flags = flags;
  if (also_blocked != 0) sigaddset(&action.sa_mask, also_blocked);
  must(sigaction(signal, &action, nullptr), "sigaction");
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  alternate_stack = map(stack_size);
  const stack_t stack{alternate_stack, 0, stack_size};
  must(sigaltstack(&stack, nullptr), "sigaltstack");
  set(SIGUSR1, plain, SA_RESTART, SIGUSR2);
  set(SIGUSR2, plain, SA_NODEFER, SIGTERM);
  set(SIGHUP, plain, SA_RESETHAND);
  set(SIGTRAP, SIG_IGN, 0);  // an engine that uses breakpoints must put this back
  set(SIGPIPE, SIG_IGN, SA_RESTART);
  set(SIGCHLD, SIG_DFL, SA_NOCLDSTOP | SA_NOCLDWAIT);
  set(SIGSEGV, plain, SA_ONSTACK | SA_NODEFER);
  struct sigaction informed{};
  informed.sa_sigaction = with_info;
  informed.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigfillset(&informed.sa_mask);
  for (int signal = SIGRTMIN + 1; signal <= SIGRTMAX; signal += 3)
    must(sigaction(signal, &informed, nullptr), "sigaction");

  sigset_t mask;
  sigemptyset(&mask);
  for (const int signal : {SIGWINCH, SIGIO, SIGRTMIN + 2, SIGRTMAX}) sigaddset(&mask, signal);
  must(sigprocmask(SIG_SETMASK, &mask, nullptr), "sigprocmask");

  KernelAction before[65];
  for (int signal = 1; signal <= 64; ++signal) before[signal] = action_of(signal);

  w.ready();
  w.wait_for_verify();

  for (int signal = 1; signal <= 64; ++signal) {
    const KernelAction now = action_of(signal);
    w.check(now.handler == before[signal].handler, "handler of signal %d: %p, was %p", signal, now.handler,
            before[signal].handler);
    w.check(now.flags == before[signal].flags, "flags of signal %d: %#lx, were %#lx", signal, now.flags,
            before[signal].flags);
    w.check(now.mask == before[signal].mask && now.restorer == before[signal].restorer,
            "mask or restorer of signal %d changed", signal);
  }
  sigset_t mask_now;
  sigprocmask(SIG_SETMASK, nullptr, &mask_now);
  for (int signal = 1; signal <= 64; ++signal) {
    w.check(sigismember(&mask_now, signal) == sigismember(&mask, signal), "blocking of signal %d changed", signal);
  }
  stack_t stack_now{};
  sigaltstack(nullptr, &stack_now);
  w.check(stack_now.ss_sp == stack.ss_sp && stack_now.ss_size == stack.ss_size && stack_now.ss_flags == 0,
          "the alternate stack is %zu bytes at %p, flags %d", stack_now.ss_size, stack_now.ss_sp, stack_now.ss_flags);

  raise(SIGUSR1);
  raise(SIGTRAP);
  w.check(plain_calls == 1, "the handler of SIGUSR1 ran %d times", plain_calls.load());
  sigqueue(getpid(), SIGRTMIN + 4, {.sival_int = 4711});
  w.check(told_value == 4711 && on_stack, "the SA_SIGINFO handler saw %d%s", told_value.load(),
          on_stack ? "" : ", off its stack");
  raise(SIGHUP);
  w.check(action_of(SIGHUP).handler == nullptr, "SA_RESETHAND does not reset");
  sigset_t pending;
  sigpending(&pending);
  w.check(sigisemptyset(&pending), "a signal is pending that nobody sent");
  return w.finish();
}
