// Checks: a process with handlers for SIGCONT, SIGTRAP, SIGUSR1 and the others an engine might use never sees one run.

#include "tests/workloads/workload.h"

#include <csignal>
#include <cstring>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

std::atomic<int> seen[65];

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  struct sigaction action{};
  action.sa_handler = [](int signal) { ++seen[signal]; };
  action.sa_flags = SA_RESTART;
  sigfillset(&action.sa_mask);
  // 32 and 33 belong to the C library.
  for (int signal = 1; signal <= 64; ++signal) {
    if (signal != SIGKILL && signal != SIGSTOP && signal != 32 && signal != 33) {
      must(sigaction(signal, &action, nullptr), "sigaction");
    }
  }
  std::atomic<bool> stop = false;
  std::thread spinner([&] {
    while (!stop) sched_yield();
  });

  w.ready();
  w.expect_interrupts();  // so that a handler that ran is reported as that
  w.wait_for_verify();
  for (int signal = 1; signal <= 64; ++signal) {
    w.check(seen[signal] == 0, "the handler of signal %d (%s) ran %d times", signal, sigabbrev_np(signal),
            seen[signal].load());
  }
  const int before = seen[SIGCONT];
  kill(getpid(), SIGCONT);
  w.check(w.wait_until([&] { return seen[SIGCONT] == before + 1; }), "the handler of SIGCONT does not run any more");
  stop = true;
  spinner.join();
  return w.finish();
}
