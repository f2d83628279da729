// Checks: TIDs, names, signal masks, thread-local storage and pending thread-directed signals of twelve threads, and
// that each still tells its joiner when it ends.

#include "tests/workloads/workload.h"

#include <barrier>
#include <csignal>
#include <cstring>
#include <list>
#include <pthread.h>
#include <sys/prctl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

constexpr int count = 12;
thread_local std::uint64_t own[512];

struct Start {
  Workload& w;
  int index;
  std::barrier<>& set_up;
  const std::atomic<bool>& stop;
  std::atomic<std::uint64_t> turns = 0;
};

void member(Start& start) {
  Workload& w = start.w;
  const int index = start.index;

  const pid_t tid = gettid();
  const std::string name = "member-" + std::to_string(index);
  pthread_setname_np(pthread_self(), name.c_str());
  sigset_t mask;
  sigemptyset(&mask);
  sigaddset(&mask, SIGUSR1);
  sigaddset(&mask, SIGRTMIN + index);
  pthread_sigmask(SIG_SETMASK, &mask, nullptr);
  fill(own, sizeof own, static_cast<std::uint64_t>(index));
  siginfo_t sent{};
  sent.si_code = SI_QUEUE;
  sent.si_pid = getpid();
  sent.si_value.sival_int = 1000 + index;
  must(syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, SIGRTMIN + index, &sent), "rt_tgsigqueueinfo");
  start.set_up.arrive_and_wait();

  while (!start.stop) {
    if (index % 3 == 0) pause_for(0.002);  // some sleep, some spin
    if (index % 3 == 1) sched_yield();
    ++start.turns;
  }

  w.check(gettid() == tid, "thread %d had TID %d and has %d", index, tid, gettid());
  char now_called[16];
  prctl(PR_GET_NAME, now_called);
  w.check(name == now_called, "thread %s is called %s", name.c_str(), now_called);
  sigset_t now_masked;
  pthread_sigmask(SIG_SETMASK, nullptr, &now_masked);
  for (int s = 1; s <= SIGRTMAX; ++s) {
    w.check(sigismember(&mask, s) == sigismember(&now_masked, s), "thread %d: blocking of signal %d changed", index, s);
  }
  w.check(holds(own, sizeof own, static_cast<std::uint64_t>(index)), "thread %d lost its thread-local values", index);
  siginfo_t got;
  const timespec none{};
  w.check(sigtimedwait(&mask, &got, &none) == SIGRTMIN + index, "thread %d lost its pending signal", index);
  w.check(got.si_value.sival_int == 1000 + index && got.si_code == SI_QUEUE, "thread %d: signal with value %d, code %d",
          index, got.si_value.sival_int, got.si_code);
  w.check(sigtimedwait(&mask, &got, &none) == -1 && errno == EAGAIN, "thread %d got a signal twice", index);
}

void* run(void* argument) {
  member(*static_cast<Start*>(argument));
  return argument;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  std::atomic<bool> stop = false;
  std::barrier<> set_up(count + 1);
  std::list<Start> starts;
  pthread_t threads[count];
  for (int i = 0; i < count; ++i) {
    if (pthread_create(&threads[i], nullptr, run, &starts.emplace_back(w, i, set_up, stop)) != 0) give_up("thread");
  }
  set_up.arrive_and_wait();
  w.ready();
  w.wait_for_verify();
  for (const Start& start : starts) {
    const std::uint64_t before = start.turns;
    w.check(w.wait_until([&] { return start.turns > before; }), "thread %d does not run any more", start.index);
  }
  stop = true;
  for (pthread_t thread : threads) {
    timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 10;
    const int error = pthread_timedjoin_np(thread, nullptr, &end);  // std::thread has no join that ends
    w.check(error == 0, "joining a thread: %s", strerrorname_np(error));
  }
  return w.finish();
}
