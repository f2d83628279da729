// Checks: a thread caught inside a signal handler, on its alternate stack, nested in another handler: the frames, the
// masks of each level and what the interrupted code computed with are there when the handlers return.

#include "tests/workloads/workload.h"

#include <csignal>
#include <pthread.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr std::size_t stack_size = 256 * 1024;
std::atomic<bool> inside = false;
std::atomic<bool> leave = false;
std::atomic<int> wrong = 0;
std::atomic<int> returned = 0;

bool blocked(int signal) {
  sigset_t mask;
  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
  return sigismember(&mask, signal) == 1;
}

bool on_alternate_stack() {
  stack_t stack{};
  sigaltstack(nullptr, &stack);
  return stack.ss_flags == SS_ONSTACK && stack.ss_size == stack_size;
}

void inner(int, siginfo_t* info, void*) {
  char frame[8192];
  fill(frame, sizeof frame, 2);
  inside = true;
  while (!leave) pause_for(0.001);
  if (!holds(frame, sizeof frame, 2)) wrong |= 1;
  if (!blocked(SIGUSR2) || !blocked(SIGUSR1) || !blocked(SIGHUP)) wrong |= 2;
  if (!on_alternate_stack()) wrong |= 4;
  if (info->si_code != SI_TKILL) wrong |= 8;
  ++returned;
}

void outer(int) {
  char frame[8192];
  fill(frame, sizeof frame, 1);
  syscall(SYS_tgkill, getpid(), gettid(), SIGUSR2);
  if (!holds(frame, sizeof frame, 1)) wrong |= 16;
  if (!blocked(SIGUSR1) || blocked(SIGUSR2) || blocked(SIGHUP)) wrong |= 32;
  if (!on_alternate_stack()) wrong |= 64;
  ++returned;
}

void interrupted() {
  char* const memory = map(stack_size);
  const stack_t stack{memory, 0, stack_size};
  must(sigaltstack(&stack, nullptr), "sigaltstack");
  double sum = 0;
  std::uint64_t turns = 0;
  // The signal arrives somewhere in here, with live values in all kinds of registers.
  while (returned == 0) {
    sum += 0.5;
    ++turns;
  }
  if (sum != 0.5 * static_cast<double>(turns)) wrong |= 128;
  if (blocked(SIGUSR1) || blocked(SIGUSR2) || on_alternate_stack()) wrong |= 256;
  ++returned;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  struct sigaction action{};
  action.sa_handler = outer;
  action.sa_flags = SA_ONSTACK;
  must(sigaction(SIGUSR1, &action, nullptr), "sigaction");
  action.sa_sigaction = inner;
  action.sa_flags = SA_ONSTACK | SA_SIGINFO;
  sigaddset(&action.sa_mask, SIGHUP);
  must(sigaction(SIGUSR2, &action, nullptr), "sigaction");

  std::thread thread(interrupted);
  pause_for(0.05);
  pthread_kill(thread.native_handle(), SIGUSR1);
  while (!inside) pause_for(0.001);

  w.ready();
  w.wait_for_verify();
  leave = true;
  if (w.check(w.wait_until([] { return returned == 3; }), "only %d of 3 levels returned", returned.load())) {
    thread.join();
  } else {
    thread.detach();
  }
  w.check(wrong == 0, "inside the handlers, wrong: %#x", wrong.load());
  return w.finish();
}
