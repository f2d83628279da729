#pragma once
// The frame of a program with one of the things that cannot be carried: the part of its name after "refused_" says
// which of `kinds`. Checks: it is refused by name and left alone: no EINTR, no signal handler, no change of memory.
// Natively it just runs.

#include "tests/workloads/blocked_call.h"

#include <csignal>
#include <cstring>
#include <span>
#include <string_view>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace godwit::workloads {

// Each makes the thing; -1 when this machine has none.
struct Kind {
  std::string_view name;
  long (*make)(Workload&);
};

// What relatives share, or are to each other, beyond being relatives. Each ends with its parent.
template <class Body>
void live_on(Body body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  body();
  for (;;) pause();
}

template <class Body>
long relative(unsigned long flags, int exit_signal, Body body) {
  const long pid = syscall(SYS_clone, flags | static_cast<unsigned long>(exit_signal), nullptr, nullptr, nullptr, 0);
  if (pid == 0) live_on(body);
  return pid;
}

// A process that is no child and ends with this one.
template <class Body>
void bystander(Body body) {
  const pid_t owner = getpid();
  const pid_t between = fork();
  if (between == 0) {
    if (fork() == 0) {
      body();
      while (kill(owner, 0) == 0) pause_for(0.01);
    }
    _exit(0);
  }
  waitpid(between, nullptr, 0);
}

// A thread does it, and stays.
template <class Call>
long in_a_thread(Call call) {
  static std::atomic<long> result;
  result = -2;
  std::thread([call] {
    result = call();
    for (;;) pause();
  }).detach();
  while (result == -2) pause_for(0.001);
  return result;
}

inline std::atomic<int> handled = 0;

// What main() returns.
inline int be_refused(int argc, char** argv, std::span<const Kind> kinds) {
  Workload w(argc, argv);
  const char* const full_name = getenv("WORKLOAD");
  std::string_view name = full_name == nullptr ? "" : full_name;
  name.remove_prefix(name.starts_with("refused_") ? 8 : 0);
  struct sigaction action{};
  action.sa_handler = [](int) { ++handled; };
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGCONT, SIGTRAP, SIGUSR1}) must(sigaction(signal, &action, nullptr), "sigaction");
  char* const memory = map(1 << 20);
  fill(memory, 1 << 20, 1);

  bool known = false;
  for (const Kind& kind : kinds) {
    if (kind.name != name) continue;
    known = true;
    if (kind.make(w) == -1) w.skip(strerror(errno));
  }
  if (!known) give_up("the name of the workload");
  const int epoll = must(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
  epoll_event event;
  BlockedCall waiting("epoll_wait", [&] { return epoll_wait(epoll, &event, 1, 800); });
  waiting.settle();

  w.ready();
  w.expect_interrupts();  // so that a handler that ran is reported as that
  w.wait_for_verify();
  if (waiting.comes_back(w, 0)) waiting.took(w, 0.8);
  w.check(handled == 0, "a signal handler ran %d times", handled.load());
  w.check(holds(memory, 1 << 20, 1), "the memory changed");
  return w.finish();
}

}  // namespace godwit::workloads
