// PID 1 of a lab host: reaps whatever is orphaned, so that no zombie holds a PID that a restored task needs back.
// Everything else on the host (the agent, commands run by hand) is started from outside and becomes its child when
// its starter exits. Ends, and with it the host, on SIGTERM.
#include <csignal>

#include <sys/wait.h>
#include <unistd.h>

int main() {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, nullptr);
  for (;;) {
    int got = 0;
    if (sigwait(&all, &got) != 0 || got == SIGTERM) return 0;
    if (got != SIGCHLD) continue;
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }
}
