// Checks: two threads that send each other numbered real-time signals as fast as they can: none is lost, doubled or
// overtaken, wherever the freeze happens (in a handler, in delivery, in a queue).

#include "tests/workloads/workload.h"

#include <csignal>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

using namespace godwit::workloads;

namespace {

struct Side {
  pthread_t thread{};
  std::atomic<pid_t> tid = 0;
  std::atomic<int> received = 0;
  std::atomic<int> out_of_order = 0;
  int sent = 0;
};

Side sides[2];
thread_local Side* mine = nullptr;
std::atomic<bool> stop = false;
std::atomic<int> done = 0;

void handler(int, siginfo_t* info, void*) {
  if (info->si_value.sival_int != mine->received + 1) ++mine->out_of_order;
  mine->received = info->si_value.sival_int;
}

void* run(void* argument) {
  mine = static_cast<Side*>(argument);
  Side& peer = mine == &sides[0] ? sides[1] : sides[0];
  mine->tid = gettid();
  while (peer.tid == 0) pause_for(0.001);
  while (!stop) {
    // Well below the limit of queued signals; and a side that is ahead would keep the other in its handler for ever.
    if (mine->sent - peer.received > 64 || mine->sent - mine->received > 64) {
      sched_yield();
      continue;
    }
    siginfo_t info{};
    info.si_code = SI_QUEUE;
    info.si_value.sival_int = ++mine->sent;
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), peer.tid.load(), SIGRTMIN, &info) != 0) give_up("rt_tgsigqueueinfo");
  }
  ++done;
  while (done < 2 || mine->received < peer.sent) {
    if (done == 3) break;
    sched_yield();
  }
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  struct sigaction action{};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  must(sigaction(SIGRTMIN, &action, nullptr), "sigaction");
  for (Side& side : sides) {
    if (pthread_create(&side.thread, nullptr, run, &side) != 0) give_up("pthread_create");
  }
  pause_for(0.05);

  w.ready();
  w.wait_for_verify();
  const int before[2] = {sides[0].received, sides[1].received};
  w.check(w.wait_until([&] { return sides[0].received > before[0] && sides[1].received > before[1]; }),
          "signals do not flow any more");
  stop = true;
  const bool all = w.wait_until(
      [] { return done == 2 && sides[0].received == sides[1].sent && sides[1].received == sides[0].sent; });
  w.check(all, "sent %d and %d, received %d and %d", sides[0].sent, sides[1].sent, sides[1].received.load(),
          sides[0].received.load());
  done = 3;
  for (Side& side : sides) pthread_join(side.thread, nullptr);
  w.check(sides[0].out_of_order + sides[1].out_of_order == 0, "%d signals came out of order",
          sides[0].out_of_order + sides[1].out_of_order);
  return w.finish();
}
