// Checks: each thread's rseq registration (made by the C library) is still known to the kernel: the CPU number in it
// follows the thread, and it cannot be registered a second time.

#include "tests/workloads/workload.h"

#include <cerrno>
#include <list>
#include <sched.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

const volatile struct rseq* own_area() {
  return reinterpret_cast<const volatile struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
}

std::vector<int> usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

void check_registration(Workload& w, int thread) {
  const volatile struct rseq* const area = own_area();
  cpu_set_t before;
  sched_getaffinity(0, sizeof before, &before);
  for (const int cpu : usable_cpus()) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    w.check(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity: %m");
    w.check(static_cast<int>(area->cpu_id) == cpu, "thread %d runs on CPU %d, its rseq area says %u", thread, cpu,
            area->cpu_id);
  }
  sched_setaffinity(0, sizeof before, &before);
  // The kernel answers EBUSY to the very registration that it has, EINVAL to another one, 0 when it has none.
  const long again = syscall(SYS_rseq, area, 32, 0, RSEQ_SIG);
  w.check(again == -1 && errno == EBUSY, "registering thread %d again: %ld (%m)", thread, again);
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  if (__rseq_size == 0) {
    errno = ENOSYS;
    give_up("the C library has registered no rseq area");
  }
  std::atomic<bool> verify = false;
  std::list<std::thread> threads;
  for (int i = 1; i <= 4; ++i) {
    threads.emplace_back([&w, &verify, i] {
      check_registration(w, i);
      while (!verify) i % 2 == 0 ? pause_for(0.002) : void(sched_yield());
      check_registration(w, i);
    });
  }
  check_registration(w, 0);
  w.ready();
  w.wait_for_verify();
  verify = true;
  check_registration(w, 0);
  for (std::thread& thread : threads) thread.join();
  return w.finish();
}
