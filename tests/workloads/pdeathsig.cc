// Checks: the parent-death signal is kept, and is not sent by the move itself.

#include "tests/workloads/workload.h"

#include <csignal>
#include <sys/prctl.h>

using namespace godwit::workloads;

namespace {

std::atomic<int> deaths = 0;

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  struct sigaction action{};
  action.sa_handler = [](int) { ++deaths; };
  action.sa_flags = SA_RESTART;
  must(sigaction(SIGUSR2, &action, nullptr), "sigaction");
  must(prctl(PR_SET_PDEATHSIG, SIGUSR2, 0, 0, 0), "PR_SET_PDEATHSIG");

  w.ready();
  w.expect_interrupts();  // so that a handler that ran is reported as that
  w.wait_for_verify();
  int signal = 0;
  prctl(PR_GET_PDEATHSIG, &signal, 0, 0, 0);
  w.check(signal == SIGUSR2, "the parent-death signal is %d", signal);
  w.check(deaths == 0, "a parent died %d times", deaths.load());
  return w.finish();
}
