// Checks: a thread that is inside an rseq critical section when it is frozen is sent to its abort handler: it never
// goes on as if nothing had happened, and later interruptions abort it again.

#include "tests/workloads/workload.h"

#include <linux/rseq.h>
#include <sched.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <vector>

using namespace godwit::workloads;

namespace {

// A counter per CPU, incremented by "load, dawdle, store" inside a critical section: any interruption that does not
// abort loses an increment of another thread on the same CPU.
struct alignas(64) PerCpu {
  std::uint64_t count;
};
PerCpu counters[1024];

char* own_area() { return static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset; }

// Enters a critical section; true when it was committed, false when it was aborted.
bool increment(std::uint64_t dawdle) {
  struct rseq* const area = reinterpret_cast<struct rseq*>(own_area());
  const std::uint32_t cpu = *static_cast<volatile std::uint32_t*>(&area->cpu_id_start);
  std::uint64_t* const counter = &counters[cpu].count;
  asm volatile goto(
      ".pushsection __rseq_sections, \"aw\"\n"
      ".balign 32\n"
      "3: .long 0, 0\n"
      ".quad 1f, 2f - 1f, 4f\n"
      ".popsection\n"
      "lea 3b(%%rip), %%rax\n"
      "mov %%rax, %[section]\n"
      "1: cmp %[cpu], %[cpu_id]\n"
      "jne %l[aborted]\n"
      "mov (%[counter]), %%rax\n"
      "mov %[dawdle], %%rcx\n"
      "5: dec %%rcx\n"
      "jnz 5b\n"
      "inc %%rax\n"
      "mov %%rax, (%[counter])\n"
      "2:\n"
      ".pushsection .text.unlikely, \"ax\"\n"
      ".byte 0x0f, 0xb9, 0x3d\n"  // the signature must stand before the abort handler, as part of an undefined
                                  // instruction
      ".long %c[signature]\n"
      "4: jmp %l[aborted]\n"
      ".popsection\n"
      :
      : [section] "m"(area->rseq_cs), [cpu] "r"(cpu), [cpu_id] "m"(area->cpu_id), [counter] "r"(counter),
        [dawdle] "r"(dawdle), [signature] "i"(RSEQ_SIG)
      : "memory", "cc", "rax", "rcx"
      : aborted);
  return true;
aborted:
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  Workload w(argc, argv);
  if (__rseq_size == 0) give_up("the C library has registered no rseq area");
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> committed = 0;

  std::vector<std::thread> workers;
  for (int i = 0; i < 3; ++i) {
    workers.emplace_back([&] {
      while (!stop) {
        if (increment(20'000)) ++committed;
      }
    });
  }
  // This one practically never leaves its critical section but by an abort.
  std::atomic<std::uint64_t> aborts = 0;
  std::atomic<pid_t> dweller_tid = 0;
  std::thread dweller([&] {
    dweller_tid = gettid();
    while (!stop) {
      if (increment(2'000'000'000)) {
        ++committed;
      } else {
        ++aborts;
      }
    }
  });
  while (dweller_tid == 0) pause_for(0.001);

  w.ready();
  const std::uint64_t aborts_before = aborts;
  w.wait_for_verify();
  if (w.moved()) w.check(aborts > aborts_before, "the dweller's critical section was not aborted by the move");
  // A section that the kernel has forgotten about survives being chased over the CPUs.
  const std::uint64_t before = aborts;
  cpu_set_t all;
  sched_getaffinity(0, sizeof all, &all);
  for (int round = 0; round < 3; ++round) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &all)) continue;
      cpu_set_t one;
      CPU_ZERO(&one);
      CPU_SET(cpu, &one);
      w.check(sched_setaffinity(dweller_tid, sizeof one, &one) == 0, "sched_setaffinity: %m");
      pause_for(0.005);
    }
  }
  sched_setaffinity(dweller_tid, sizeof all, &all);
  stop = true;
  w.check(aborts > before, "the dweller sits in a critical section that the kernel does not know");
  for (std::thread& worker : workers) worker.join();
  dweller.join();
  std::uint64_t sum = 0;
  for (const PerCpu& counter : counters) sum += counter.count;
  w.check(sum == committed, "%llu increments were committed, the counters say %llu",
          static_cast<unsigned long long>(committed.load()), static_cast<unsigned long long>(sum));
  return w.finish();
}
