// Checks: signals that stop and continue processes, blocked and pending: a SIGCONT, which every stop signal destroys,
// or (as pending_stops) SIGTSTP, SIGTTIN and SIGTTOU, which SIGCONT destroys. In the process's queue and in a thread's,
// with their sender, code and value.

#include "tests/workloads/workload.h"

#include <csignal>
#include <cstring>
#include <string>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

siginfo_t described(int signal, int value) {
  siginfo_t info{};
  info.si_signo = signal;
  info.si_code = SI_QUEUE;
  info.si_pid = 4242;
  info.si_uid = 77;
  info.si_value.sival_int = value;
  return info;
}

void queue_for_process(int signal, int value) {
  siginfo_t info = described(signal, value);
  must(syscall(SYS_rt_sigqueueinfo, getpid(), signal, &info), "rt_sigqueueinfo");
}

void queue_for_thread(int signal, int value) {
  siginfo_t info = described(signal, value);
  must(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), signal, &info), "rt_tgsigqueueinfo");
}

// Takes one that is pending: a thread's own queue comes before the process's.
void check_next(Workload& w, int signal, int value) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  siginfo_t info{};
  const timespec none{};
  if (!w.check(syscall(SYS_rt_sigtimedwait, &set, &info, &none, 8) == signal, "SIG%s with value %d is not pending",
               sigabbrev_np(signal), value)) {
    return;
  }
  const bool same = info.si_code == SI_QUEUE && info.si_pid == 4242 && info.si_uid == 77;
  w.check(same && info.si_value.sival_int == value, "SIG%s has code %d, pid %d, value %d, not %d", sigabbrev_np(signal),
          info.si_code, info.si_pid, info.si_value.sival_int, value);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  const char* const name = getenv("WORKLOAD");
  const bool stops = name != nullptr && std::string(name) == "pending_stops";

  std::atomic<bool> queued = false;
  std::atomic<bool> verify = false;
  std::thread other([&] {
    queue_for_thread(stops ? SIGTTIN : SIGCONT, 1);
    queued = true;
    while (!verify) pause_for(0.005);
    check_next(w, stops ? SIGTTIN : SIGCONT, 1);
  });
  while (!queued) pause_for(0.001);
  if (stops) {
    queue_for_process(SIGTSTP, 2);
    queue_for_process(SIGTTOU, 3);
    queue_for_thread(SIGTSTP, 4);
  } else {
    queue_for_process(SIGCONT, 2);
    queue_for_thread(SIGCONT, 3);
  }

  w.ready();
  w.wait_for_verify();

  verify = true;
  other.join();
  if (stops) {
    check_next(w, SIGTSTP, 4);
    check_next(w, SIGTSTP, 2);
    check_next(w, SIGTTOU, 3);
  } else {
    check_next(w, SIGCONT, 3);
    check_next(w, SIGCONT, 2);
  }
  sigset_t pending;
  sigpending(&pending);
  w.check(sigisemptyset(&pending), "more signals are pending than were sent");
  return w.finish();
}
