// Checks: signals that wait in the process's and in a thread's queue, standard and real-time: each arrives exactly
// once, in order, with its sender, code, value and all other bytes of its siginfo.

#include "tests/workloads/workload.h"

#include <csignal>
#include <cstring>
#include <map>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

constexpr int per_signal = 20;

// The bytes of siginfo that the kernel fills for a queued signal; the rest of the structure is padding.
constexpr std::size_t compared = 48;

void queue_raw(bool to_thread, int signal, int code, int value) {
  siginfo_t info{};
  info.si_signo = signal;
  info.si_code = code;
  info.si_pid = 4242;
  info.si_uid = 77;
  info.si_value.sival_ptr = reinterpret_cast<void*>(mix(static_cast<std::uint64_t>(value)) >> 16);
  if (to_thread) {
    must(syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), signal, &info), "rt_tgsigqueueinfo");
  } else {
    must(syscall(SYS_rt_sigqueueinfo, getpid(), signal, &info), "rt_sigqueueinfo");
  }
}

// Takes what is pending for the calling thread: its own queue first, then the process's.
std::vector<siginfo_t> take(int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  std::vector<siginfo_t> got;
  siginfo_t info;
  const timespec none{};
  for (;;) {
    std::memset(&info, 0, sizeof info);
    // Not sigtimedwait(3), which turns SI_TKILL into SI_USER.
    if (syscall(SYS_rt_sigtimedwait, &set, &info, &none, 8) != signal) return got;
    got.push_back(info);
  }
}

void check_queue(Workload& w, const char* whose, int signal, int code, int first_value) {
  const std::vector<siginfo_t> got = take(signal);
  w.check(got.size() == per_signal, "%s: %zu of %d signals %d", whose, got.size(), per_signal, signal);
  for (std::size_t i = 0; i < got.size(); ++i) {
    siginfo_t expected{};
    expected.si_signo = signal;
    expected.si_code = code;
    expected.si_pid = 4242;
    expected.si_uid = 77;
    expected.si_value.sival_ptr = reinterpret_cast<void*>(mix(static_cast<std::uint64_t>(first_value) + i) >> 16);
    w.check(std::memcmp(&got[i], &expected, compared) == 0, "%s: signal %d number %zu: code %d, pid %d, value %p",
            whose, signal, i, got[i].si_code, got[i].si_pid, got[i].si_value.sival_ptr);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);

  for (int i = 0; i < per_signal; ++i) {
    queue_raw(false, SIGRTMIN + 1, SI_QUEUE, 100 + i);
    queue_raw(false, SIGRTMIN + 2, SI_MESGQ, 200 + i);
    queue_raw(false, SIGRTMAX, -60, 300 + i);
  }
  kill(getpid(), SIGUSR1);
  kill(getpid(), SIGUSR1);  // a standard signal is pending once
  must(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR2), "tgkill");
  // One signal number in both queues at a time.
  must(syscall(SYS_tgkill, getpid(), getpid(), SIGRTMIN + 5), "tgkill");
  must(sigqueue(getpid(), SIGRTMIN + 5, {.sival_int = 55}), "sigqueue");

  std::atomic<bool> queued = false;
  std::atomic<bool> verify = false;
  std::thread other([&] {
    for (int i = 0; i < per_signal; ++i) queue_raw(true, SIGRTMIN + 3, SI_QUEUE, 400 + i);
    queued = true;
    while (!verify) pause_for(0.005);
    check_queue(w, "thread", SIGRTMIN + 3, SI_QUEUE, 400);
  });
  while (!queued) pause_for(0.001);

  w.ready();
  w.wait_for_verify();

  w.check(take(SIGRTMIN + 3).empty(), "the thread's signals are in the process's queue");
  verify = true;
  other.join();
  check_queue(w, "process", SIGRTMIN + 1, SI_QUEUE, 100);
  check_queue(w, "process", SIGRTMIN + 2, SI_MESGQ, 200);
  check_queue(w, "process", SIGRTMAX, -60, 300);

  const auto killed = take(SIGUSR1);
  w.check(killed.size() == 1, "%zu signals by kill, not 1", killed.size());
  for (const siginfo_t& info : killed) {
    w.check(info.si_code == SI_USER && info.si_pid == getpid() && info.si_uid == getuid(),
            "the signal by kill has code %d, pid %d, uid %d", info.si_code, info.si_pid, info.si_uid);
  }
  const auto directed = take(SIGUSR2);
  w.check(directed.size() == 1 && directed[0].si_code == SI_TKILL && directed[0].si_pid == getpid(),
          "%zu signals by tgkill%s", directed.size(), directed.size() == 1 ? ", with another code or pid" : "");
  const auto both = take(SIGRTMIN + 5);
  w.check(both.size() == 2 && both[0].si_code == SI_TKILL && both[1].si_code == SI_QUEUE &&
              both[1].si_value.sival_int == 55,
          "%zu signals that were one in the thread's and one in the process's queue", both.size());
  sigset_t pending;
  sigpending(&pending);
  w.check(sigisemptyset(&pending), "more signals are pending than were sent");
  return w.finish();
}
