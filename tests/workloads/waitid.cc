// Checks: threads blocked in waitid and waitpid on a living child go on waiting and get its end.

#include "tests/workloads/blocked_call.h"

#include <sys/wait.h>
#include <unistd.h>

using namespace godwit::workloads;

int main(int argc, char** argv) {
  Workload w(argc, argv);
  int gate[2];
  must(pipe(gate), "pipe");
  const pid_t first = must(fork(), "fork");
  const pid_t second = first == 0 ? 0 : must(fork(), "fork");
  if (first == 0 || second == 0) {
    close(gate[1]);
    char none;
    _exit(read(gate[0], &none, 1) == 0 ? 42 : 1);
  }
  close(gate[0]);
  BlockedCall by_id("waitid", [=] {
    siginfo_t info{};
    const long result = waitid(P_PID, static_cast<id_t>(first), &info, WEXITED);
    return result == 0 && (info.si_pid != first || info.si_status != 42) ? -1000 : result;
  });
  BlockedCall by_pid("waitpid", [=] {
    int status = 0;
    const long got = waitpid(second, &status, 0);
    return got == second && (!WIFEXITED(status) || WEXITSTATUS(status) != 42) ? -1000 : got;
  });
  by_id.settle();
  by_pid.settle();

  w.ready();
  w.wait_for_verify();
  by_id.still_blocked(w);
  by_pid.still_blocked(w);
  close(gate[1]);
  by_id.comes_back(w, 0);
  by_pid.comes_back(w, second);
  return w.finish();
}
